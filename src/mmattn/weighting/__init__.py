"""Modality weightings: how much of a result comes from audio and how much from video. See docs/weighting.md."""
