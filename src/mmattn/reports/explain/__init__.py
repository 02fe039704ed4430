"""What the tags of one file depend on, as a video and a page."""
