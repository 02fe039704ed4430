"""How a stored frame is rotated and mirrored: the eight orientations of display matrices and EXIF."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from mmattn.media.read.video.filters import filtered

# Types of side data of FFmpeg 8 that PyAV's enumeration lacks (31 is EXIF): then it lists none at all.
_UNLISTED = sorted(set(range(28, 32)) - {kind.value for kind in Type})


@dataclass(frozen=True)
class Orientation:
    """Quarter `turns` counter-clockwise make a frame upright, then, if `mirrored`, a horizontal flip."""

    turns: int = 0
    mirrored: bool = False

    @property
    def is_upright(self) -> bool:
        """Whether the stored frame is upright already."""
        return not (self.turns or self.mirrored)

    @property
    def is_sideways(self) -> bool:
        """Whether height and width are exchanged."""
        return self.turns % 2 == 1

    def upright(self, image: np.ndarray) -> np.ndarray:
        """An upright view of the stored `image` (H, W, ...)."""
        turned = np.rot90(image, self.turns) if self.turns else image
        return turned[:, ::-1] if self.mirrored else turned


def orientation(frame: VideoFrame) -> Orientation:
    """The frame's orientation by the file's display matrix or an image's EXIF record."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return Orientation()
    # A stored point (x, y), y downwards, is shown at (a x + c y, b x + d y).
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a = -a
    angle = np.degrees(np.arctan2(b, a)) if a or b else 0.0  # clockwise
    return Orientation(round(-angle / 90) % 4, mirrored)


def _display_matrix(frame: VideoFrame) -> bytes | None:
    try:
        attached: Any = frame.side_data
    except ValueError:  # it has a type that PyAV does not know
        attached = filtered(frame, *(("sidedata", f"mode=delete:type={kind}") for kind in _UNLISTED)).side_data
    return next((bytes(data) for data in attached if data.type is Type.DISPLAYMATRIX), None)
