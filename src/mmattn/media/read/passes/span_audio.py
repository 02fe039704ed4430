"""The audio of a span, from the packets of its stream that are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmattn.media.open.packets import demux
from mmattn.media.open.streams import codec_name, start_of, time_base
from mmattn.media.read.audio.first_frames import FirstFrames
from mmattn.media.read.audio.track import JUMP_S
from mmattn.media.read.passes.plan import Unplannable
from mmattn.media.read.passes.reading import Reading
from mmattn.media.read.passes.sparse import seek

_PREROLL_S = 1.0  # of audio decoded before the span, so that the decoder settles
_BACK_S = (0.0, 4.0, 16.0, 64.0)  # how much further back to look for audio
_BATCH = 16  # audio frames that are placed together
_CHECKED = 64  # every 64th audio packet is checked for encryption, and the first 64


class SpanAudio:
    """Decodes the audio of the span from packets."""

    def __init__(self, reading: Reading, stream: AudioStream, origin: float) -> None:
        self.stream = stream
        self.track = reading.audio_track(stream)
        self.issues: set[str] = set()
        self.end: float | None = None  # of the last packet, s
        self._reading = reading
        self._tick, self._origin = time_base(stream), origin
        whole = self.track.clock.counted or "dpcm" in (codec_name(stream) or "")  # a sample may need all before it
        self._from = -math.inf if whole else reading.request.start - _PREROLL_S
        self._to = math.inf if reading.request.end is None else reading.request.end
        self._decode = stream.codec_context.decode
        self._frames: list[AudioFrame] = []
        self._first: float | None = None
        self._count = 0
        self.first_frames = FirstFrames(stream, self.track, origin)

    @property
    def done(self) -> bool:
        """Whether the audio has passed the span's end."""
        return self.track.done

    @property
    def is_late(self) -> bool:
        """Whether the first packet lies after the span's start though it is not the stream's first."""
        begin = start_of(self.stream)
        before = (
            self._reading.request.start if begin is None else max(self._reading.request.start, begin - self._origin)
        )
        return self._first is None or self._first > before

    def read(self, container: InputContainer, video: VideoStream | None) -> bool:
        """Take the packets of the span; returns whether the stream's end was met."""
        from_start = self._from <= _PREROLL_S
        packets = self._from_start(container) if from_start else self._near(container, video)
        for packet in packets:
            self.take(packet)
            if self.track.done:
                return False
        self.finish()
        return True

    def finish(self) -> None:
        """Place the decoded frames that are left."""
        self.track.add_all(self._frames, self._tick, self._origin)
        self._frames = []

    def take(self, packet: Packet) -> None:
        """Take the stream's next packet; the empty one at its end flushes the decoder. Raises Unplannable."""
        pts = packet.pts
        if pts is not None and packet.size:
            time = pts * self._tick - self._origin
            if self._first is None:
                self._first = time
            if self.end is not None and time < self.end - JUMP_S and self.end < self._from:
                raise Unplannable("the audio's clock jumps back")
            self.end = time + (packet.duration or 0) * self._tick
            if self.end < self._from:
                self.first_frames.take(packet)
                return
        elif packet.dts is not None and not packet.size:
            return  # an empty sample; only the flush packet may be empty
        self.first_frames.leave()
        count = self._count = self._count + 1
        if count <= _CHECKED or count % _CHECKED == 0:
            self._reading.check(packet)
        try:
            self._frames += self._decode(packet)
        except MemoryError:
            raise
        except (FFmpegError, ValueError):
            self.issues.add("bad_packets")
        if len(self._frames) >= _BATCH or pts is None or (self.end or 0.0) > self._to:
            self.finish()

    def _from_start(self, container: InputContainer) -> Iterator[Packet]:
        return demux(container, self.stream, deadline=self._reading.deadline, issues=self.issues)

    def _near(self, container: InputContainer, video: VideoStream | None) -> Iterator[Packet]:
        """The packets from a little before the span."""
        guide = video if video is not None and len(self.stream.index_entries) <= 1 else self.stream
        self.first_frames.read(demux(container, self.stream))
        for back in _BACK_S:
            stamp = int((self._from - back + self._origin) / time_base(guide))
            packets = seek(container, self._reading, guide, stamp, self.stream, issues=self.issues)
            first = next(packets, None)
            if first is None or first.pts is None:
                continue
            self._first = first.pts * self._tick - self._origin
            if not self.is_late:
                return chain((first,), packets)
        raise Unplannable("no audio before the span")
