"""Turns records into subtitles: cues of speech, sounds and captions."""
