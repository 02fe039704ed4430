"""The frames that an encoder expects the reader to decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmattn.media.read.picture.resample import Resample


@dataclass(frozen=True)
class FrameFormat:
    """The frames that an encoder wants to be decoded: `size` (height, width), the middle of a picture resized before.

    `resize`: to what, its shorter side or (height, width). `resample`: by which library, and its filter.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int]
    resample: Resample

    @property
    def clip(self) -> dict[str, Any]:
        """The keys of data.clip that say so."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "fit": "crop" if isinstance(self.resize, int) else "stretch",
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "resample": self.resample,
        }
