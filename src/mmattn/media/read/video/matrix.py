"""The matrix by which a frame's luma and chroma become RGB: its tag's, or what players assume."""

from __future__ import annotations

from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from mmattn.media.read.video.tone_map import transfer

# Matrix coefficients as ITU-T H.273 numbers them.
_NO_TAG = frozenset((0, 2, 3))  # RGB (wrong for a frame of luma and chroma), unspecified, reserved
_CONVERTIBLE = frozenset((1, 4, 5, 6, 7, 9))  # by swscale; YCgCo, ICtCp, constant luminance and others are not
_HD_WIDTH, _HD_HEIGHT = 1280, 720


def is_assumed(frame: VideoFrame) -> bool:
    """Whether another matrix is used than the one tagged, or than BT.601 for a frame without a tag."""
    if frame.format.is_rgb or frame.colorspace in _CONVERTIBLE:
        return False
    return frame.colorspace not in _NO_TAG or _is_hd(frame)


def matrix(frame: VideoFrame) -> tuple[Colorspace | None, set[str]]:
    """The matrix to use, None: as tagged, BT.601 without a tag; and the issues of what was assumed."""
    if frame.format.is_rgb or frame.colorspace in _CONVERTIBLE:
        return None, set()
    issues = set() if frame.colorspace in _NO_TAG else {"unknown_matrix"}
    if transfer(frame.color_trc):
        return Colorspace.BT2020, issues
    if _is_hd(frame):
        return Colorspace.ITU709, issues | {"assumed_bt709"}
    return Colorspace.ITU601, issues


def _is_hd(frame: VideoFrame) -> bool:
    return frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
