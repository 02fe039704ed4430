"""Read a span of a file: frames on a grid, and a waveform."""
