"""Decoded audio frames become one waveform."""
