"""A pass over a file that decodes what the question needs and little else.

Where the container has an index (MP4, Matroska), sound and picture are read one after the other: the sound with the
picture's bytes left where they are, the picture by seeking from one run of the plan to the next. Elsewhere both come
from one pass over the packets. Either way the frames are those of decoding everything in turn (sequential.py); where
a file breaks the rules that this rests on, Unplannable is raised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from mmattn.media.open.clock_jumps import may_jump
from mmattn.media.open.streams import cut_off, demux, start_of, time_base
from mmattn.media.read.audio.first_frames import Opening
from mmattn.media.read.audio.track import JUMP_S
from mmattn.media.read.frames import last_end
from mmattn.media.read.passes.plan import Unplannable
from mmattn.media.read.passes.reading import Reached, Reading, Taken
from mmattn.media.read.passes.sequential import measured_extent
from mmattn.media.read.passes.sparse import SparsePictures, seek

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_STAMPED = ("mpegts", "avi", "wav")  # no index to plan with, but stamps after a seek are exact
_RUN_UP_S = 10.0  # there a pass begins this long before the span: key frames are seldom further apart
_PREROLL_S = 1.0  # of sound decoded before the span, so that its decoder forgets that it began in the middle
_BACK_S = (0.0, 4.0, 16.0, 64.0)  # how much further back to look for sound
_BATCH = 16  # frames of sound that are placed together
_CHECKED = 64  # every so manyth packet of sound is looked at for encryption, and the first ones


def take_planned(reading: Reading) -> tuple[Taken, np.ndarray]:
    """What the question needs, and its grid. Raises Unplannable, MediaError."""
    with reading.open() as container:
        first = _Pass(reading, container)
        if container.format.name in _INDEXED:
            return first.apart()
        near = container.format.name in _STAMPED and reading.request.start > 2 * _RUN_UP_S
        jumpy = may_jump(container)
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
        self.audio = chosen.audio if reading.request.audio else None
        self.issues: set[str] = set()  # met on the way through the packets
        self.sound = None if self.audio is None else _Sound(reading, self.audio, chosen.origin)

    def apart(self) -> tuple[Taken, np.ndarray]:
        """First the sound, then the picture."""
        fresh, extent, ends = True, None, {}
        if self.sound is not None:
            self._leave_all_but(self.sound.stream)
            met_end, fresh = self.sound.read(self.container, self.chosen.video), False
            if met_end and self.sound.end is not None:
                ends[self.sound.stream.index] = self.sound.end
        if self.video is None:
            return self._taken(None, ends), self.reading.grid(0.0)
        self._leave_all_but(self.video)
        if self.reading.request.needs_extent:
            extent = last_end(self.container, self.video, self.chosen.origin, self.reading.deadline)
            extent, fresh = measured_extent(self.reading) if extent is None else extent, False
        grid = self.reading.grid(extent or 0.0)
        pictures = SparsePictures(self.reading, self.video, self.chosen.origin, grid)
        met_end = pictures.read(self.container, fresh)
        if (end := extent or (pictures.end if met_end else None)) is not None:
            ends[self.video.index] = end
        return self._taken(pictures, ends), grid

    def together(self, extent: float, near: bool) -> tuple[Taken, np.ndarray]:
        """Picture and sound from one pass over the packets, `near`: from a little before the span on."""
        grid = self.reading.grid(extent)
        sound, video = self.sound, self.video
        reached, ends = Reached(self.chosen.origin, self.reading.request.end), {}
        pictures = None if video is None else SparsePictures(self.reading, video, self.chosen.origin, grid)
        streams = [stream for stream in (video, self.audio) if stream is not None]
        packets = demux(self.container, *streams, issues=self.issues)
        if near:
            if sound is not None:
                first = sound.opening.read(packets, video)
            else:
                first = next(packet for packet in packets if packet.stream is video)
            if pictures is not None and first is not None:
                pictures.start_near(first)
            start = self.reading.request.start - _RUN_UP_S + self.chosen.origin
            packets = seek(self.container, streams[0], int(start / time_base(streams[0])), *streams, issues=self.issues)
        for packet in packets:
            self.reading.deadline.check()
            if ((pictures is None or pictures.done) and (sound is None or sound.done)) or reached.past(packet):
                break
            if packet.stream is video:  # stream_index is wrong on the packets that end a stream
                if pictures is not None and not pictures.done:
                    pictures.take(packet)
            elif sound is not None:
                sound.take(packet)
        else:
            ends = reached.ends
        if pictures is not None:
            pictures.finish(bool(ends))
        if sound is not None:
            sound.finish()
        if near and sound is not None and sound.is_late:
            raise Unplannable("no sound before the span")
        return self._taken(pictures, ends), grid

    def _leave_all_but(self, stream: Stream) -> None:
        """Packets of the other streams are passed over unread."""
        for other in self.container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all

    def _taken(self, pictures: SparsePictures | None, ends: dict[int, float]) -> Taken:
        """`ends`: stream index -> end of its last packet, s, of the streams that were read to their end."""
        sound, asked = self.sound, [part for part in (self.sound, pictures) if part is not None]
        issues = set(self.chosen.issues).union(self.issues, *(part.issues for part in asked))
        if ends and cut_off(self.container, self.chosen, ends):
            issues.add("truncated")
        return Taken(
            images=None if pictures is None else pictures.images,
            sound=None if sound is None else sound.track,
            issues=issues,
            duration=self.reading.duration(self.container),
            fruitless=bool(asked) and all(part.end is None for part in asked),
        )


class _Sound:
    """The sound of the span from packets."""

    def __init__(self, reading: Reading, stream: AudioStream, origin: float) -> None:
        self.stream = stream
        self.track = reading.sound(stream)
        self.issues: set[str] = set()
        self.end: float | None = None  # of the last packet, s
        self._reading = reading
        self._tick, self._origin = time_base(stream), origin
        self._from = -math.inf if self.track.clock.counted else reading.request.start - _PREROLL_S
        self._to = math.inf if reading.request.end is None else reading.request.end
        self._decode = stream.codec_context.decode
        self._frames: list[AudioFrame] = []
        self._first: float | None = None
        self._count = 0
        self.opening = Opening(stream, self.track, origin)

    @property
    def done(self) -> bool:
        return self.track.done

    @property
    def is_late(self) -> bool:
        """Whether the first packet lies after the span's start, though it is not the stream's first."""
        opening = start_of(self.stream)
        before = (
            self._reading.request.start if opening is None else max(self._reading.request.start, opening - self._origin)
        )
        return self._first is None or self._first > before

    def read(self, container: InputContainer, video: VideoStream | None) -> bool:
        """Take the packets of the span; whether the stream's end was met."""
        from_start = self._from <= _PREROLL_S
        packets = demux(container, self.stream, issues=self.issues) if from_start else self._near(container, video)
        for packet in packets:
            self.take(packet)
            if self.track.done:
                return False
        self.finish()
        return True

    def finish(self) -> None:
        """Place the frames that wait."""
        self.track.add_all(self._frames, self._tick, self._origin)
        self._frames = []

    def take(self, packet: Packet) -> None:
        """The stream's next packet; the empty one at its end hands over what is left. Raises Unplannable."""
        pts = packet.pts
        if pts is not None and packet.size:
            time = pts * self._tick - self._origin
            if self._first is None:
                self._first = time
            if self.end is not None and time < self.end - JUMP_S and self.end < self._from:
                raise Unplannable("the sound's clock jumps back")
            self.end = time + (packet.duration or 0) * self._tick
            if self.end < self._from:
                self.opening.look(packet)
                return
        elif packet.dts is not None and not packet.size:
            return  # an empty sample; only the flush packet may be empty
        self.opening.leave()
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

    def _near(self, container: InputContainer, video: VideoStream | None) -> Iterator[Packet]:
        """The packets from a little before the span on."""
        guide = video if video is not None and len(self.stream.index_entries) <= 1 else self.stream
        self.opening.read(demux(container, self.stream))
        for back in _BACK_S:
            stamp = int((self._from - back + self._origin) / time_base(guide))
            packets = seek(container, guide, stamp, self.stream, issues=self.issues)
            first = next(packets, None)
            if first is None or first.pts is None:
                continue
            self._first = first.pts * self._tick - self._origin
            if not self.is_late:
                return chain((first,), packets)
        raise Unplannable("no sound before the span")
