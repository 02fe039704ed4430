"""Writes the records of a job: a file or folder in some format, subtitle tracks, videos with text drawn in."""
