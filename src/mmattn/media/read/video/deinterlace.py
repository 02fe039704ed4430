"""One interlaced frame becomes a progressive one, from that frame alone.

Filters that use the neighbouring frames (yadif, bwdif) would need these decoded and give another result where they are
not: a frame must not depend on how it was reached.
"""

from __future__ import annotations

from av.video.frame import VideoFrame

from mmattn.media.read.video.filters import filtered


def deinterlaced(frame: VideoFrame, height: int) -> VideoFrame:
    """`frame` for an image of `height` rows: its first field, with the missing rows interpolated along edges (estdif).

    Where half of the rows are enough for `height`, only the upper field, which costs nothing.
    """
    if 2 * height <= frame.height:
        return filtered(frame, ("field", "type=top"))
    return filtered(frame, ("estdif", "mode=frame"))
