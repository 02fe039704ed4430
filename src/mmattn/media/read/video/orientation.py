"""How a stored picture is turned and mirrored to stand upright: the eight orientations of display matrices and EXIF."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from mmattn.media.read.video.filters import filtered

# Kinds of side data that FFmpeg 8 has and PyAV's enumeration lacks (31 is EXIF): it lists none then.
_UNLISTED = sorted(set(range(28, 32)) - {kind.value for kind in Type})


@dataclass(frozen=True)
class Orientation:
    """Quarter `turns` counter-clockwise, then, if `mirrored`, left and right exchanged."""

    turns: int = 0
    mirrored: bool = False

    @property
    def is_upright(self) -> bool:
        return not (self.turns or self.mirrored)

    @property
    def is_sideways(self) -> bool:
        """Whether height and width change places."""
        return self.turns % 2 == 1

    def upright(self, image: np.ndarray) -> np.ndarray:
        """A view of `image` (H, W, ...), as it is meant to be seen."""
        turned = np.rot90(image, self.turns) if self.turns else image
        return turned[:, ::-1] if self.mirrored else turned


def orientation(frame: VideoFrame) -> Orientation:
    """As the file's display matrix, or a still's EXIF record, tells of this frame."""
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
    except ValueError:  # a kind that PyAV does not know is among them
        attached = filtered(frame, *(("sidedata", f"mode=delete:type={kind}") for kind in _UNLISTED)).side_data
    return next((bytes(data) for data in attached if data.type is Type.DISPLAYMATRIX), None)
