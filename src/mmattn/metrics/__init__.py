"""Scores of tags and captions, their calibration and intervals; imports nothing of mmattn."""
