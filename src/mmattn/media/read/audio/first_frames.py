"""A look at the first frames of a file's sound before decoding goes on further in.

Where frames have one length, all of them lie whole frames after the first. Stamps alone, rounded to ms, do not tell
that well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmattn.media.open.streams import time_base
from mmattn.media.read.audio.track import SoundTrack

_MOST = 8  # packets that are looked at


class Opening:
    """Decodes the first packets of `stream` and tells `track` of them."""

    def __init__(self, stream: AudioStream, track: SoundTrack, origin: float) -> None:
        self._stream, self._track, self._origin = stream, track, origin
        self._looked = 0

    def read(self, packets: Iterator[Packet], video: VideoStream | None = None) -> Packet | None:
        """Take packets from the file's beginning until enough is known; returns the first of `video` among them."""
        first = None
        for packet in packets:
            if packet.stream is video:
                first = first or packet
            else:
                self.look(packet)
            if self._track.is_open and (first is not None or video is None):
                break
        self.leave()
        self._track.is_open = True
        return first

    def look(self, packet: Packet) -> None:
        """The next packet. Nothing is done once enough is known."""
        if self._track.is_open or not packet.size:
            return
        self._looked += 1
        tick = time_base(self._stream)
        with suppress(FFmpegError, ValueError):  # reported where the span itself meets it
            for frame in self._stream.codec_context.decode(packet):
                if frame.pts is not None and frame.samples and frame.sample_rate:
                    self._track.open_with(frame.pts * tick - self._origin, frame.samples, frame.sample_rate)
        if self._track.is_open or self._looked >= _MOST:
            self.leave()

    def leave(self) -> None:
        """What is decoded from here on does not follow on what was looked at."""
        if self._looked:
            self._track.is_open, self._looked = True, 0
            self._stream.codec_context.flush_buffers()
