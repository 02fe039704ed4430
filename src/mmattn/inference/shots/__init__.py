"""Finds the cuts of a video, and reads it shot by shot."""
