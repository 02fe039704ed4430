"""mmattn: tags and captions for videos from picture and sound, and how much of each result came from which."""

from __future__ import annotations

import mmattn.startup  # noqa: F401  # isort: skip  # before anything else is imported
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mmattn.inference.predictor.pipeline import Predictor

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(run: str | Path) -> Predictor:
    """Open a trained run (its directory or its ``model.safetensors``); call it with a file, which gives a Result.

    >>> mmattn.load("runs/x")("clip.mp4").tags
    """
    from mmattn.inference.predictor.pipeline import Predictor

    return Predictor.load(run)
