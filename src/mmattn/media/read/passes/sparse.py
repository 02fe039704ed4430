"""The frames of a grid, decoding only the runs of a plan, and in these only frames that the shown ones refer to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import numpy as np
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.media.open.packets import demux, frame_seconds
from mmattn.media.open.streams import codec_name, time_base
from mmattn.media.read.frames import check_size, renderer, slack
from mmattn.media.read.passes.plan import FrameClock, PacketRun, Plan, Unplannable
from mmattn.media.read.passes.reading import Reading

# Decoders whose skip_frame=NONREF leaves out exactly the frames that no other frame refers to.
_SKIPPING = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")
_HIDING = ("vp8", "vp9", "av1")  # some packets show no frame: the one before stays
_UNMARKED = ("h261", "h263", "cavs", "dirac")  # FFmpeg's parsers take each of their packets for a key frame
_MARKED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "ogg", "nut")  # the container says it
_LOOK_UP_S = 2.0  # for later times the index is used
_LANDINGS = 5  # places to try after a seek, each further back


class SparseFrames:
    """Images (H, W, 3) of the frames shown at the increasing times `grid` (T,), s."""

    def __init__(self, reading: Reading, stream: VideoStream, origin: float, grid: np.ndarray) -> None:
        self._reading, self._stream, self._grid = reading, stream, grid
        self._context = stream.codec_context
        self._clock = FrameClock(time_base(stream), origin, frame_seconds(stream), slack(stream))
        self._plan = Plan(grid, self._clock)
        self._render = renderer(reading.request, stream)
        self._images: dict[int, np.ndarray] = {}
        self._first: Packet | None = None  # of the stream
        self._met: set[str] = set()  # issues of the packets
        self._used = False  # whether the decoder has seen a packet
        if codec_name(stream) in _UNMARKED and stream.container.format.name not in _MARKED:
            raise Unplannable("key frames that nothing tells from others")

    @property
    def done(self) -> bool:
        """Whether the packets of all grid times are known."""
        return self._plan.wanted is None

    @property
    def end(self) -> float | None:
        """Until when the last frame so far is shown, s."""
        return self._plan.end

    @property
    def issues(self) -> set[str]:
        """What was fixed or found on the way."""
        return self._render.issues | self._met

    @property
    def images(self) -> list[np.ndarray]:
        """After `finish`: one for each of the first grid times; later times lie after the video's end."""
        return [self._images[place] for place in range(self._plan.settled)]

    def take(self, packet: Packet) -> None:
        """Take the stream's next packet, from its first one or after `start_near`. Raises Unplannable."""
        if packet.size:
            self._first = self._first or packet
            self._show(self._plan.add(packet))

    def finish(self, at_end: bool) -> None:
        """Decode what is left; `at_end`: the stream has no more packets. Raises Unplannable."""
        self._show(self._plan.finish() if at_end else self._plan.flush())

    def start_near(self, first: Packet) -> None:
        """Take note that the next packets follow a seek; `first` is the stream's first packet."""
        self._first = first
        self._plan.start_over(first_of_file=False)

    def read(self, container: InputContainer, fresh: bool) -> bool:
        """Take the needed packets, seeking where that skips some; returns whether the stream's end was met.

        `fresh`: nothing was read from the container yet. The packets of other streams are lost.
        """
        packets = self._from_start(container, fresh)
        while (wanted := self._plan.wanted) is not None:
            if self._is_ahead(wanted):
                packets = self._jump(container, self._clock.stamp(wanted))
            for packet in packets:
                self.take(packet)
                if self._plan.wanted != wanted:
                    break
            else:
                self.finish(at_end=True)
                return True
        self.finish(at_end=False)
        return False

    def _from_start(self, container: InputContainer, fresh: bool) -> Iterator[Packet]:
        """Take the stream's first packet; returns the packets after it."""
        index, wanted = self._stream.index_entries, self._plan.wanted
        if fresh and (len(index) > 1 or wanted is None or wanted < _LOOK_UP_S):
            packets = demux(container, self._stream, deadline=self._reading.deadline, issues=self._met)
        elif len(index):  # Matroska's index is loaded by the first seek
            packets = self._seek(container, index[0].timestamp)
        else:
            raise Unplannable("no index to go back by")
        first = next(packets, None)
        if first is not None and not (fresh or self._is_first(first)):
            raise Unplannable("no way back to the beginning")
        if first is not None:
            self.take(first)
        return packets

    def _seek(self, container: InputContainer, stamp: int) -> Iterator[Packet]:
        return seek(container, self._reading, self._stream, stamp, self._stream, issues=self._met)

    def _is_ahead(self, time: float) -> bool:
        """Whether the index has a key frame at or before `time` that has not been reached yet."""
        index = self._stream.index_entries
        at = index.search_timestamp(self._clock.stamp(time), backward=True) if len(index) else -1
        read = self._plan.last_pts
        return at >= 0 and index[at].timestamp > (index[0].timestamp if read is None else read)

    def _jump(self, container: InputContainer, stamp: int) -> Iterator[Packet]:
        """The packets from a key frame near `stamp` that is not after the wanted time."""
        self._show(self._plan.flush())
        wanted = self._plan.wanted
        assert wanted is not None
        for _ in range(_LANDINGS):
            packets = self._seek(container, stamp)
            first = next((packet for packet in packets if packet.size), None)
            if first is None or first.pts is None:
                break
            if first.is_keyframe and self._clock.time(first.pts) - self._clock.slack <= wanted:
                self._plan.start_over(first_of_file=False)
                return chain((first,), packets)
            stamp = (first.dts if first.dts is not None else first.pts) - 1
        raise Unplannable("no key frame where the index says")

    def _is_first(self, packet: Packet) -> bool:
        first = self._stream.index_entries[0].timestamp
        return first in (packet.dts, packet.pts) or packet.pts == self._stream.start_time

    def _show(self, runs: list[PacketRun]) -> None:
        for run in runs:
            for packet in (run.packets[0], run.packets[-1]):
                self._reading.check(packet)
            try:
                if not self._decode(run):
                    self._decode_all(run)
            except (FFmpegError, ValueError) as error:
                raise Unplannable("a packet that cannot be decoded") from error

    def _decode(self, run: PacketRun) -> bool:
        """Render what `run` shows, skipping frames that no other refers to; False if a frame does not come."""
        context, awaited = self._context, dict(run.shown)
        skips = context.codec.canonical_name in _SKIPPING
        self._renew(run)
        try:
            for packet in chain(run.packets, (None,)):
                if skips:
                    context.skip_frame = "DEFAULT" if packet is None or packet.pts in run.shown else "NONREF"
                for frame in context.decode(packet):
                    if frame.pts is None or frame.pts not in awaited:
                        continue
                    if frame.is_corrupt:
                        raise Unplannable("a damaged frame")
                    self._keep(frame, awaited.pop(frame.pts))
        finally:
            context.skip_frame = "DEFAULT"
        return not awaited

    def _decode_all(self, run: PacketRun) -> None:
        """As `_decode`, where packets may show no frame of their own and the frame before is shown instead.

        These are hidden frames of some codecs, and the first packets of a file that was cut at its beginning.
        """
        context, awaited = self._context, sorted(run.shown)
        hides = context.codec.canonical_name in _HIDING
        current: VideoFrame | None = None
        self._renew(run)
        for packet in chain(run.packets, (None,)):
            for frame in context.decode(packet):
                if frame.pts is None or frame.is_corrupt or (current is not None and frame.pts <= (current.pts or 0)):
                    raise Unplannable("frames out of order")
                while awaited and awaited[0] < frame.pts:
                    if not (hides if current is not None else run.first_of_file):
                        raise Unplannable("a frame that was planned does not come")
                    self._keep(current or frame, run.shown[awaited.pop(0)])
                if awaited and awaited[0] == frame.pts:
                    self._keep(frame, run.shown[awaited.pop(0)])
                current = frame
        if awaited and (current is None or not hides):
            raise Unplannable("a frame that was planned does not come")
        for pts in awaited:
            assert current is not None
            self._keep(current, run.shown[pts])

    def _renew(self, run: PacketRun) -> None:
        """Reset the decoder, after it has seen the file's first packet.

        Encoders sign there, and decoders correct known errors of some of them.
        """
        if not self._used and not run.first_of_file and self._first is not None:
            with suppress(FFmpegError, ValueError):
                self._context.decode(self._first)
                self._used = True
        if self._used:
            self._context.flush_buffers()
        self._used = True

    def _keep(self, frame: VideoFrame, places: list[int]) -> None:
        image = self._render(frame)
        check_size(image, len(self._grid), self._reading.path, self._reading.limits)
        self._images.update(dict.fromkeys(places, image))


def seek(
    container: InputContainer, reading: Reading, guide: Stream, stamp: int, *streams: Stream, issues: set[str]
) -> Iterator[Packet]:
    """The packets of `streams` from the last key frame of `guide` at or before `stamp`."""
    try:
        container.seek(stamp, stream=guide)
    except FFmpegError as error:
        raise Unplannable("the container does not seek") from error
    return demux(container, *streams, deadline=reading.deadline, issues=issues)
