"""mmattn: tags and captions for videos from picture and sound, and how much of each result came from which."""

from __future__ import annotations

import mmattn.startup  # noqa: F401  # isort: skip  # before anything else is imported
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mmattn.inference.predictor.pipeline import Predictor

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(run: str | Path, trust: str | None = None) -> Predictor:
    """Open a trained run (its directory or its ``model.safetensors``); call it with a file, which gives a Result.

    `trust`: an installed package whose classes a run from elsewhere may be built from.

    >>> mmattn.load("runs/x")("clip.mp4").tags
    """
    from mmattn.inference.predictor.pipeline import Predictor
    from mmattn.targets import TRUST, check_trust, environment

    with environment(**{TRUST: check_trust([trust]) if trust else None}):
        return Predictor.load(run)
