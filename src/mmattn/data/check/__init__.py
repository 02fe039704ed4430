"""Check a media library: measure every file and flag problems."""
