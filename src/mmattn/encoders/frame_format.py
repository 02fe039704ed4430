"""The frames that a visual encoder expects from the reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmattn.media.read.video.resample import Resample


@dataclass(frozen=True)
class FrameFormat:
    """Frames of `size` (height, width): resized to `resize`, then cropped at the centre.

    `resize`: the length of the shorter side, or (height, width). `resample`: the library and its filter.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int]
    resample: Resample

    @property
    def clip(self) -> dict[str, Any]:
        """The keys of data.clip that make the reader decode such frames."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "fit": "crop" if isinstance(self.resize, int) else "stretch",
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "resample": self.resample,
        }
