"""Fusion strategies: how the video and the audio tokens read each other. See docs/fusion.md."""
