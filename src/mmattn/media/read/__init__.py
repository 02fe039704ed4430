"""The span of a file that was asked for: frames on a grid, and a waveform."""
