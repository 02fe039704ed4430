"""The frames shown at given times: the last one whose presentation time is not after each time."""

from __future__ import annotations

import numpy as np
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.extent import StreamEnd
from mmattn.media.open.packets import StreamClock, demux
from mmattn.media.open.streams import time_base
from mmattn.media.open.trust import trusted_duration
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Renderer

_MAX_SLACK_S = 0.0005


def slack(stream: VideoStream) -> float:
    """How far a frame's stamp may lie after t and still count as t, s.

    Containers round times to ticks (a millisecond in Matroska), so a stamp may be half a tick late. The cap is for
    containers whose tick is a whole frame: their stamps are exact.
    """
    return min(max(time_base(stream) / 2, 1e-6), _MAX_SLACK_S)


def pixel_aspect(stream: VideoStream) -> float:
    """Width over height of one stored pixel; 1 where the file does not give it."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio else 1.0


def renderer(request: Request, stream: VideoStream) -> Renderer:
    """The Renderer that turns the stream's frames into what `request` wants."""
    how = request.hdr, request.deinterlace, request.resample, request.resize
    return Renderer(request.size, request.fit, pixel_aspect(stream), *how)


class FrameTimes:
    """Frame times on the clip's clock, s, made to increase where the file's stamps are missing or fall."""

    def __init__(self, stream: VideoStream, origin: float) -> None:
        self._clock = StreamClock.of(stream, origin)
        self._last = -float("inf")
        self.end: float | None = None  # until when the frame placed last is shown, s
        self.fixed = False

    def place(self, pts: int | None, duration: int | None) -> float:
        """When the next frame appears, s, from its stamp and length in ticks."""
        time = None if pts is None else self._clock.time(pts)
        if time is None or time <= self._last:
            self.fixed = True
            time = 0.0 if self.end is None else self.end
        self._last = time
        self.end = time + self._clock.length(duration)
        return time


class VideoTrack:
    """Takes all decoded frames in turn and renders those shown at the increasing times `grid` (T,), s.

    A time before the first frame gets the first frame; times after the last frame's end get none.
    """

    def __init__(
        self, path: str, stream: VideoStream, origin: float, grid: np.ndarray, render: Renderer, limits: Limits
    ) -> None:
        self._path, self._grid, self._render, self._limits = path, grid, render, limits
        self._line = FrameTimes(stream, origin)
        self._slack = slack(stream)
        self._current: VideoFrame | None = None
        self.first_time: float | None = None
        self.images: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        """Whether every grid time has its image."""
        return len(self.images) == len(self._grid)

    @property
    def issues(self) -> set[str]:
        """What was fixed on the way."""
        return self._render.issues | ({"pts_fixed"} if self._line.fixed else set())

    def add(self, frame: VideoFrame) -> None:
        """Take the next decoded frame."""
        time = self._line.place(frame.pts, frame.duration)
        self._show_until(time - self._slack)
        self._current = frame
        self.first_time = time if self.first_time is None else self.first_time

    def finish(self) -> None:
        """Take note that no frame follows: the last one is shown until its end."""
        if self._line.end is not None:
            self._show_until(self._line.end - 1e-6)

    def _show_until(self, time: float) -> None:
        """Use the current frame for the grid times before `time`."""
        upto = int(np.searchsorted(self._grid, time, side="left"))
        count = upto - len(self.images)
        if self._current is None or count <= 0:
            return
        image = self._render(self._current)
        check_size(image, len(self._grid), self._path, self._limits)
        self.images += [image] * count


def check_size(image: np.ndarray, count: int, path: str, limits: Limits) -> None:
    """Raise MediaError if `count` images of this size exceed the limit for one clip."""
    if image.nbytes * count > limits.decoded_bytes:
        size = f"{image.shape[0]} x {image.shape[1]}"
        raise MediaError(path, "too_large", f"{count} frames of {size}, at most {limits.decoded_bytes} bytes")


def video_extent(container: InputContainer, stream: VideoStream, origin: float, deadline: Deadline) -> float:
    """When the last packet of the video ends, s, whatever the header says."""
    end = StreamEnd(stream, origin)
    for packet in demux(container, stream, deadline=deadline):
        end.add(packet)
    return end.end


def last_end(container: InputContainer, stream: VideoStream, origin: float, deadline: Deadline) -> float | None:
    """As video_extent, from the packets after the last key frame, which the container's index gives.

    None where that is not certain: no index, a header that cannot be trusted, packets missing before the end of the
    index, stamps out of order.
    """
    index, clock = stream.index_entries, StreamClock.of(stream, origin)
    duration = trusted_duration(container)
    if not len(index) or duration is None:
        return None
    far = int((duration + origin) / clock.tick)
    try:
        container.seek(max(far, index[-1].timestamp), stream=stream)
    except FFmpegError:
        return None
    end: float | None = None
    last_dts, seen = None, set()
    for packet in demux(container, stream, deadline=deadline):
        if packet.dts is not None:
            if last_dts is not None and packet.dts < last_dts:
                return None
            last_dts = packet.dts
        if not packet.size:
            continue
        if packet.pts is None or _is_early(packet) or not (seen or packet.is_keyframe):
            return None
        seen |= {packet.pts, packet.dts}
        if not packet.is_discard:
            shown_until = clock.time(packet.pts) + clock.length(packet.duration)
            end = shown_until if end is None else max(end, shown_until)
    return end if index[-1].timestamp in seen else None


def _is_early(packet: Packet) -> bool:
    """Whether the packet is presented before it is decoded."""
    return packet.pts is not None and packet.dts is not None and packet.pts < packet.dts
