"""Decoded frames of audio become one waveform."""
