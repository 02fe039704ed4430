"""The annotator open_tags: tags from your own list, by models that compare sentences with video and audio."""
