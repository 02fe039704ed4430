"""A pass over a file that decodes everything from its beginning to the last frame or sample of the request.

Slow, and right also for files that keep no rule: missing, doubled or falling stamps, packets that cannot be decoded.
planned.py gives the same result faster.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from mmattn.media.open.packets import cut_off
from mmattn.media.open.streams import Chosen, time_base
from mmattn.media.read.audio.track import AudioTrack
from mmattn.media.read.frames import VideoTrack, renderer, video_extent
from mmattn.media.read.passes.reading import PassResult, Reached, Reading


def measured_extent(reading: Reading) -> float:
    """Where the video ends, s, by a pass over its packets; 0 if the grid does not depend on it."""
    if not reading.request.needs_extent:
        return 0.0
    with reading.open() as container:
        chosen = reading.choose(container)
        return 0.0 if chosen.video is None else video_extent(container, chosen.video, chosen.origin, reading.deadline)


def read_sequential(reading: Reading, grid: np.ndarray) -> PassResult:
    """The request's audio, and its frames at the grid times (T,), s. Raises MediaError."""
    with reading.open() as container:
        chosen, request = reading.choose(container), reading.request
        video, audio = None, None
        if request.video and chosen.video is not None:
            render = renderer(request, chosen.video)
            video = VideoTrack(reading.path, chosen.video, chosen.origin, grid, render, reading.limits)
        if request.audio and chosen.audio is not None:
            audio = reading.audio_track(chosen.audio)
        return _Pass(reading, chosen, video, audio).over(container)


class _Pass:
    def __init__(self, reading: Reading, chosen: Chosen, video: VideoTrack | None, audio: AudioTrack | None) -> None:
        self.reading, self.chosen = reading, chosen
        self.video, self.audio = video, audio
        self.issues: set[str] = set(chosen.issues)
        self.decoded = 0  # frames of both kinds

    def over(self, container: InputContainer) -> PassResult:
        video, audio, chosen = self.video, self.audio, self.chosen
        streams = [s for s in (video and chosen.video, audio and chosen.audio) if s is not None]
        reached, ended = Reached(chosen.origin, self.reading.request.end), False
        for packet in self.reading.packets(container, *streams, issues=self.issues) if streams else ():
            has_frames = video is None or video.done
            if (has_frames and (audio is None or audio.done)) or reached.past(packet):
                break
            if packet.stream.type != "video" or not has_frames:
                self._decode(packet)
        else:
            ended = True
        if video is not None:
            video.finish()
        if ended and streams and cut_off(container, chosen, reached.ends):
            self.issues.add("truncated")
        issues = self.issues | (video.issues if video is not None else set())
        images = None if video is None else video.images
        nothing_decoded = bool(streams) and not self.decoded
        return PassResult(images, audio, issues, self.reading.duration(container), nothing_decoded)

    def _decode(self, packet: Packet) -> None:
        for frame in frames_of(packet, self.issues):
            self.decoded += 1
            if isinstance(frame, VideoFrame) and self.video is not None:
                self.video.add(frame)
            elif isinstance(frame, AudioFrame) and self.audio is not None:
                tick = time_base(packet.stream)
                self.audio.add(frame, None if frame.pts is None else frame.pts * tick - self.chosen.origin)


def frames_of(packet: Packet, issues: set[str]) -> Iterator[VideoFrame | AudioFrame]:
    """The packet's frames; where it cannot be decoded, `issues` gets "bad_packets" and the pass goes on."""
    if packet.size == 0 and packet.dts is not None:
        return  # an empty sample; only the flush packet may be empty
    try:
        yield from packet.decode()  # type: ignore[misc]
    except MemoryError:
        raise
    except (FFmpegError, ValueError):
        issues.add("bad_packets")
