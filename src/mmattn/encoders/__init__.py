"""From video and audio to tokens with times: tiny built-in networks and pretrained ones. See docs/encoders.md."""
