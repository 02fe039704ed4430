"""mmattn: tags and captions for videos from audio and video, with the contribution of each modality."""

from __future__ import annotations

import mmattn.process.startup  # noqa: F401  # isort: skip  # before anything else is imported
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from pathlib import Path

    from mmattn.inference.annotators.pretrained import Ready
    from mmattn.inference.predictor.pipeline import Predictor

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


@overload
def load(run: Literal["pretrained"], *settings: str) -> Ready: ...
@overload
def load(run: str | Path, *, trust: str | None = None) -> Predictor: ...
def load(run: str | Path, *settings: str, trust: str | None = None) -> Predictor | Ready:
    """Load a trained run (its directory or its ``model.safetensors``); calling it with a file returns a Result.

    `trust`: an installed package with classes that the run needs.

    >>> mmattn.load("runs/x")("clip.mp4").tags

    ``"pretrained"`` loads the installed pretrained models, with settings as on the command line. A run of that name is
    ``"./pretrained"``.

    >>> mmattn.load("pretrained", "annotators=[speech,sounds]")("clip.mp4").transcript
    """
    if run == "pretrained":
        from mmattn.inference.annotators.pretrained import Ready

        return Ready(*settings)
    if settings:
        raise TypeError('settings are for load("pretrained", ...)')
    from mmattn.config.targets import TRUST, check_trust, environment
    from mmattn.inference.predictor.pipeline import Predictor

    with environment(**{TRUST: check_trust([trust]) if trust else None}):
        return Predictor.load(run)
