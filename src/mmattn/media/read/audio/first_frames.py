"""The first audio frames of a file, decoded before a pass continues further in.

Where all frames have one length, each lies a whole number of frames after the first. Stamps alone, rounded to ms, are
less exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmattn.media.open.streams import time_base
from mmattn.media.read.audio.track import AudioTrack

_MOST = 8  # packets that are decoded


class FirstFrames:
    """Decodes the first packets of `stream` and gives their times to `track`."""

    def __init__(self, stream: AudioStream, track: AudioTrack, origin: float) -> None:
        self._stream, self._track, self._origin = stream, track, origin
        self._decoded = 0

    def read(self, packets: Iterator[Packet], video: VideoStream | None = None) -> Packet | None:
        """Take packets from the beginning until the track knows enough; returns the first one of `video` among them."""
        first = None
        for packet in packets:
            if packet.stream is video:
                first = first or packet
            else:
                self.take(packet)
            if self._track.is_open and (first is not None or video is None):
                break
        self.leave()
        self._track.is_open = True
        return first

    def take(self, packet: Packet) -> None:
        """Take the next packet; without effect once the track knows enough."""
        if self._track.is_open or not packet.size:
            return
        self._decoded += 1
        tick = time_base(self._stream)
        with suppress(FFmpegError, ValueError):  # reported where the span itself has it
            for frame in self._stream.codec_context.decode(packet):
                if frame.pts is not None and frame.samples and frame.sample_rate:
                    self._track.open_with(frame.pts * tick - self._origin, frame.samples, frame.sample_rate)
        if self._track.is_open or self._decoded >= _MOST:
            self.leave()

    def leave(self) -> None:
        """Reset the decoder, whose next packets do not follow the first ones."""
        if self._decoded:
            self._track.is_open, self._decoded = True, 0
            self._stream.codec_context.flush_buffers()
