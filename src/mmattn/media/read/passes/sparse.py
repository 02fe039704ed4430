"""The frames of a grid by decoding only the runs that a plan names, and of these only what frames shown refer to."""

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

from mmattn.media.open.streams import demux, frame_seconds, time_base
from mmattn.media.read.frames import check_size, renderer, slack
from mmattn.media.read.passes.plan import FrameClock, PacketRun, Plan, Unplannable
from mmattn.media.read.passes.reading import Reading

# Decoders that leave out what no other frame refers to, and only that, when told to.
_SKIPPING = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8")
_HIDING = ("vp8", "vp9", "av1")  # some packets show nothing: what is shown is the frame before
_LOOK_UP_S = 2.0  # a time this late is worth a look at the index
_LANDINGS = 5  # places to try after a seek, each further back


class SparsePictures:
    """Images (H, W, 3) of the frames shown at `grid` (T,) s, rising."""

    def __init__(self, reading: Reading, stream: VideoStream, origin: float, grid: np.ndarray) -> None:
        self._reading, self._stream, self._grid = reading, stream, grid
        self._context = stream.codec_context
        self._clock = FrameClock(time_base(stream), origin, slack(stream), frame_seconds(stream))
        self._plan = Plan(grid, self._clock)
        self._render = renderer(reading.request, stream)
        self._images: dict[int, np.ndarray] = {}
        self._first: Packet | None = None  # of the stream
        self._met: set[str] = set()  # issues on the way through the packets
        self._used = False  # whether the decoder has seen a packet

    @property
    def done(self) -> bool:
        return self._plan.wanted is None

    @property
    def end(self) -> float | None:
        """When the last of the frames fed so far vanishes, s."""
        return self._plan.end

    @property
    def issues(self) -> set[str]:
        return self._render.issues | self._met

    @property
    def images(self) -> list[np.ndarray]:
        """After `finish`: one for each of the first grid times; the later ones lie after the picture's end."""
        return [self._images[place] for place in range(self._plan.settled)]

    def take(self, packet: Packet) -> None:
        """The stream's next packet, from the first one on or after `start_near`. Raises Unplannable."""
        if packet.size:
            self._first = self._first or packet
            self._show(self._plan.add(packet))

    def finish(self, at_end: bool) -> None:
        """No more packets are taken; `at_end`: there are none. Raises Unplannable."""
        self._show(self._plan.finish() if at_end else self._plan.flush())

    def start_near(self, first: Packet) -> None:
        """The packets that follow come after a seek; `first` is the stream's first one."""
        self._first = first
        self._plan.start_over(first_of_file=False)

    def read(self, container: InputContainer, fresh: bool) -> bool:
        """Take the packets that are needed, seeking where that leaves some out; whether the stream's end was met.

        `fresh`: nothing was read from the container yet. The other streams' packets are lost.
        """
        packets = self._from_start(container, fresh)
        while (wanted := self._plan.wanted) is not None:
            if self._is_ahead(wanted):
                packets = self._jump(container, self._clock.stamp(wanted))
            for packet in packets:
                self._reading.deadline.check()
                self.take(packet)
                if self._plan.wanted != wanted:
                    break
            else:
                self.finish(at_end=True)
                return True
        self.finish(at_end=False)
        return False

    def _from_start(self, container: InputContainer, fresh: bool) -> Iterator[Packet]:
        """The stream's packets after the first one, which is taken."""
        index, wanted = self._stream.index_entries, self._plan.wanted
        if fresh and (len(index) > 1 or wanted is None or wanted < _LOOK_UP_S):
            packets = demux(container, self._stream, issues=self._met)
        elif len(index):  # Matroska's index is loaded by the first seek
            packets = seek(container, self._stream, index[0].timestamp, self._stream, issues=self._met)
        else:
            raise Unplannable("no index to go back by")
        first = next(packets, None)
        if first is not None and not (fresh or self._is_first(first)):
            raise Unplannable("no way back to the beginning")
        if first is not None:
            self.take(first)
        return packets

    def _is_ahead(self, time: float) -> bool:
        """Whether the index has a key frame at or before `time` that was not reached yet."""
        index = self._stream.index_entries
        at = index.search_timestamp(self._clock.stamp(time), backward=True) if len(index) else -1
        read = self._plan.last_pts
        return at >= 0 and index[at].timestamp > (index[0].timestamp if read is None else read)

    def _jump(self, container: InputContainer, stamp: int) -> Iterator[Packet]:
        """The packets from a key frame near `stamp` on that is not after the time wanted."""
        self._show(self._plan.flush())
        wanted = self._plan.wanted
        assert wanted is not None
        for _ in range(_LANDINGS):
            packets = seek(container, self._stream, stamp, self._stream, issues=self._met)
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
        """Render what `run` shows, decoding reference frames only beside it; False if a frame does not come."""
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
        """The same where packets may show nothing of their own: what is shown then is the frame before.

        Those are hidden frames of some codecs, and the first ones of a file that begins in the middle of things.
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
        """Make the decoder forget what it saw, but for what only a file's first packet tells.

        There encoders sign, and decoders make up for the known errors of some of them.
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
    container: InputContainer, guide: Stream, stamp: int, *streams: Stream, issues: set[str] | None = None
) -> Iterator[Packet]:
    """The packets of `streams` from the last key frame of `guide` at or before `stamp` on."""
    try:
        container.seek(stamp, stream=guide)
    except FFmpegError as error:
        raise Unplannable("the container does not seek") from error
    return demux(container, *streams, issues=issues)
