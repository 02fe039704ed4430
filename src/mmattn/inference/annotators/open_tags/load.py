"""Loads the model of a folder."""

from __future__ import annotations

from pathlib import Path

from mmattn.inference.annotators.open_tags.contrastive import AudioText, ImageText
from mmattn.inference.annotators.open_tags.pe_av import PEAudioVideo
from mmattn.inference.annotators.open_tags.zero_shot import ZeroShot


def load_zero_shot(kind: str, folder: Path, device: str) -> ZeroShot:
    """`kind`: the model_type of the folder's config. Raises UsageError for weights that cannot be loaded."""
    if kind == "pe_audio_video":
        return PEAudioVideo(folder, device)
    return (AudioText if kind == "clap" else ImageText)(kind, folder, device)
