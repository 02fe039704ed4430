"""A pass over a file that decodes what the request needs and little else.

Where the container has an index (MP4, Matroska), audio and video are read one after the other: the audio while the
video's packets are skipped, the video by seeking from one run of the plan to the next. Elsewhere both come from one
pass over the packets. Either way the result is that of decoding everything in turn (sequential.py). Where a file breaks
the rules that this relies on, Unplannable is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from av.container.input import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from mmattn.media.open.clock_jumps import may_jump
from mmattn.media.open.packets import cut_off, demux
from mmattn.media.open.streams import time_base
from mmattn.media.read.frames import last_end
from mmattn.media.read.passes.plan import Unplannable
from mmattn.media.read.passes.reading import PassResult, Reached, Reading
from mmattn.media.read.passes.sequential import measured_extent
from mmattn.media.read.passes.span_audio import SpanAudio
from mmattn.media.read.passes.sparse import SparseFrames, seek

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_STAMPED = ("mpegts", "avi", "wav")  # no index to plan with, but stamps after a seek are exact
_RUN_UP_S = 10.0  # for these a pass begins this long before the span: key frames are rarely further apart


def read_planned(reading: Reading) -> tuple[PassResult, np.ndarray]:
    """The request's frames and audio, and its grid (T,), s. Raises Unplannable, MediaError."""
    with reading.open() as container:
        first = _Pass(reading, container)
        jumpy = may_jump(container)
        if container.format.name in _INDEXED and not jumpy:
            return first.apart()
        near = container.format.name in _STAMPED and reading.request.start > 2 * _RUN_UP_S
    near = near and (not jumpy or reading.extent().steady)
    extent = measured_extent(reading)
    if near:
        with suppress(Unplannable), reading.open() as container:
            return _Pass(reading, container).together(extent, near)
    with reading.open() as container:
        return _Pass(reading, container).together(extent, False)


class _Pass:
    """One pass over an open container."""

    def __init__(self, reading: Reading, container: InputContainer) -> None:
        self.reading, self.container = reading, container
        self.chosen = chosen = reading.choose(container)
        self.video = chosen.video if reading.request.video else None
        audio = chosen.audio if reading.request.audio else None
        self.issues: set[str] = set()  # of the packets
        self.audio = None if audio is None else SpanAudio(reading, audio, chosen.origin)

    def apart(self) -> tuple[PassResult, np.ndarray]:
        """First the audio, then the video."""
        fresh, extent, ends = True, None, {}
        if self.audio is not None:
            self._discard_all_but(self.audio.stream)
            met_end, fresh = self.audio.read(self.container, self.chosen.video), False
            if met_end and self.audio.end is not None:
                ends[self.audio.stream.index] = self.audio.end
        if self.video is None:
            return self._result(None, ends), self.reading.grid(0.0)
        self._discard_all_but(self.video)
        if self.reading.request.needs_extent:
            extent = last_end(self.container, self.video, self.chosen.origin, self.reading.deadline)
            extent, fresh = measured_extent(self.reading) if extent is None else extent, False
        grid = self.reading.grid(extent or 0.0)
        frames = SparseFrames(self.reading, self.video, self.chosen.origin, grid)
        met_end = frames.read(self.container, fresh)
        if (end := extent or (frames.end if met_end else None)) is not None:
            ends[self.video.index] = end
        return self._result(frames, ends), grid

    def together(self, extent: float, near: bool) -> tuple[PassResult, np.ndarray]:
        """Video and audio from one pass over the packets; `near`: from a little before the span."""
        grid, audio = self.reading.grid(extent), self.audio
        frames = None if self.video is None else SparseFrames(self.reading, self.video, self.chosen.origin, grid)
        reached = Reached(self.chosen.origin, self.reading.request.end)
        met_end = self._take_all(self._packets(frames, near), frames, reached)
        ends = reached.ends if met_end else {}
        if frames is not None:
            frames.finish(bool(ends))
        if audio is not None:
            audio.finish()
        if near and audio is not None and audio.is_late:
            raise Unplannable("no audio before the span")
        return self._result(frames, ends), grid

    def _packets(self, frames: SparseFrames | None, near: bool) -> Iterator[Packet]:
        """The packets from the file's beginning, or after a seek to a little before the span."""
        reading, video, audio = self.reading, self.video, self.audio
        streams = [stream for stream in (video, None if audio is None else audio.stream) if stream is not None]
        packets = demux(self.container, *streams, deadline=reading.deadline, issues=self.issues)
        if not near:
            return packets
        if audio is not None:
            first = audio.first_frames.read(packets, video)
        else:
            first = next(packet for packet in packets if packet.stream is video)
        if frames is not None and first is not None:
            frames.start_near(first)
        start = reading.request.start - _RUN_UP_S + self.chosen.origin
        stamp = int(start / time_base(streams[0]))
        return seek(self.container, reading, streams[0], stamp, *streams, issues=self.issues)

    def _take_all(self, packets: Iterator[Packet], frames: SparseFrames | None, reached: Reached) -> bool:
        """Take packets until the request has its frames and audio; returns whether the file's end was met."""
        audio, video = self.audio, self.video
        for packet in packets:
            if ((frames is None or frames.done) and (audio is None or audio.done)) or reached.past(packet):
                return False
            if packet.stream is video:  # stream_index is wrong on the packets that end a stream
                if frames is not None and not frames.done:
                    frames.take(packet)
            elif audio is not None:
                audio.take(packet)
        return True

    def _discard_all_but(self, stream: Stream) -> None:
        """Make the container skip the packets of the other streams unread."""
        for other in self.container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all

    def _result(self, frames: SparseFrames | None, ends: dict[int, float]) -> PassResult:
        """`ends`: stream index -> end of its last packet, s, of the streams that were read to their end."""
        audio, parts = self.audio, [part for part in (self.audio, frames) if part is not None]
        issues = set(self.chosen.issues).union(self.issues, *(part.issues for part in parts))
        if ends and cut_off(self.container, self.chosen, ends):
            issues.add("truncated")
        return PassResult(
            images=None if frames is None else frames.images,
            audio=None if audio is None else audio.track,
            issues=issues,
            duration=self.reading.duration(self.container),
            nothing_decoded=bool(parts) and all(part.end is None for part in parts),
        )
