"""The annotator captions: sentences by a language model on shots, chapters and the whole file."""
