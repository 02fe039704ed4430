"""Frames and sound to tokens with times: tiny networks and ready-made ones. See docs/encoders.md."""
