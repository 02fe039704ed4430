"""One interlaced frame -> a progressive one, from that frame alone.

Filters that look at the frames around (yadif, bwdif) would need these decoded, and give another picture where they are
not: what is read must not depend on how it was reached.
"""

from __future__ import annotations

from av.video.frame import VideoFrame

from mmattn.media.read.video.filters import filtered


def deinterlaced(frame: VideoFrame, height: int) -> VideoFrame:
    """`frame` for a picture of `height` rows: of its first field, the missing rows drawn along the edges (estdif).

    Where half of the rows are enough for `height`, the upper field alone, which costs nothing.
    """
    if 2 * height <= frame.height:
        return filtered(frame, ("field", "type=top"))
    return filtered(frame, ("estdif", "mode=frame"))
