"""A pass over a file that decodes everything from its beginning to the last thing asked for.

Slow, and right also for files that keep no rule: missing, doubled or falling time stamps, packets that cannot be
decoded. What planned.py brings faster is what this brings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from mmattn.media.open.streams import Chosen, cut_off, demux, time_base
from mmattn.media.read.audio.track import SoundTrack
from mmattn.media.read.frames import PictureTrack, picture_extent, renderer
from mmattn.media.read.passes.reading import Reached, Reading, Taken


def measured_extent(reading: Reading) -> float:
    """Where the picture ends, s, by a pass over its packets; 0 if the grid does not depend on it."""
    if not reading.request.needs_extent:
        return 0.0
    with reading.open() as container:
        chosen = reading.choose(container)
        return 0.0 if chosen.video is None else picture_extent(container, chosen.video, chosen.origin, reading.deadline)


def take_in_turn(reading: Reading, grid: np.ndarray) -> Taken:
    """What the question needs, at the grid times (T,) s. Raises MediaError."""
    with reading.open() as container:
        chosen, asked = reading.choose(container), reading.request
        pictures, sound = None, None
        if asked.video and chosen.video is not None:
            render = renderer(asked, chosen.video)
            pictures = PictureTrack(reading.path, chosen.video, chosen.origin, grid, render, reading.limits)
        if asked.audio and chosen.audio is not None:
            sound = reading.sound(chosen.audio)
        return _Pass(reading, chosen, pictures, sound).over(container)


class _Pass:
    def __init__(
        self, reading: Reading, chosen: Chosen, pictures: PictureTrack | None, sound: SoundTrack | None
    ) -> None:
        self.reading, self.chosen = reading, chosen
        self.pictures, self.sound = pictures, sound
        self.issues: set[str] = set(chosen.issues)
        self.decoded = 0  # frames of both kinds

    def over(self, container: InputContainer) -> Taken:
        pictures, sound, chosen = self.pictures, self.sound, self.chosen
        streams = [s for s in (pictures and chosen.video, sound and chosen.audio) if s is not None]
        reached, ended = Reached(chosen.origin, self.reading.request.end), False
        for packet in demux(container, *streams, issues=self.issues) if streams else ():
            self.reading.check(packet)
            seen_all = pictures is None or pictures.done
            if (seen_all and (sound is None or sound.done)) or reached.past(packet):
                break
            if packet.stream.type != "video" or not seen_all:
                self._decode(packet)
        else:
            ended = True
        if pictures is not None:
            pictures.finish()
        if ended and streams and cut_off(container, chosen, reached.ends):
            self.issues.add("truncated")
        issues = self.issues | (pictures.issues if pictures is not None else set())
        images = None if pictures is None else pictures.images
        return Taken(images, sound, issues, self.reading.duration(container), bool(streams) and not self.decoded)

    def _decode(self, packet: Packet) -> None:
        for frame in frames_of(packet, self.issues):
            self.decoded += 1
            if isinstance(frame, VideoFrame) and self.pictures is not None:
                self.pictures.add(frame)
            elif isinstance(frame, AudioFrame) and self.sound is not None:
                tick = time_base(packet.stream)
                self.sound.add(frame, None if frame.pts is None else frame.pts * tick - self.chosen.origin)


def frames_of(packet: Packet, issues: set[str]) -> Iterator[VideoFrame | AudioFrame]:
    """The packet's frames; a packet that fails must not cost the rest."""
    if packet.size == 0 and packet.dts is not None:
        return  # an empty sample; only the flush packet may be empty
    try:
        yield from packet.decode()  # type: ignore[misc]
    except MemoryError:
        raise
    except (FFmpegError, ValueError):
        issues.add("bad_packets")
