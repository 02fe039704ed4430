"""One decoded frame becomes upright RGB pixels."""
