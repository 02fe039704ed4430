"""Scores of tags and captions, their calibration and intervals; a leaf that imports nothing else of mmattn."""
