"""What becomes of the records of a job: one file of a format, a track for each video, videos with text in them."""
