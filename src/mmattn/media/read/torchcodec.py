"""read_clip with the video decoded by torchcodec, on the CPU or on a GPU (NVDEC): the same frames.

PyAV still opens the file first, with all limits, chooses the streams, finds the start of the clock and reads the audio;
torchcodec gets the bytes without the file's name. Pixels are scaled from RGB, not from the stored planes, so they
differ a little. It runs in the calling process: a crash of the decoder ends that process.

PyAV decodes the video, and the issue "pyav_frames" reports it, where torchcodec is known to differ (containers without
an index; rotated, mirrored, interlaced or HDR frames, HD without a colour tag), fails, or gives fewer frames than
requested.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import av
import numpy as np
from av.container.input import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.errors import MediaError, UsageError
from mmattn.media.open.container import CHANGED, Deadline, Limits, NamelessFile, one_line
from mmattn.media.open.packets import demux
from mmattn.media.open.source import Source, name_of, open_source
from mmattn.media.read.decode import DecodedClip, decode, stacked
from mmattn.media.read.frames import check_size, renderer, slack
from mmattn.media.read.passes.reading import Reading
from mmattn.media.read.passes.sequential import frames_of, measured_extent
from mmattn.media.read.request import Request
from mmattn.media.read.video.matrix import is_assumed
from mmattn.media.read.video.orientation import orientation
from mmattn.media.read.video.render import Renderer
from mmattn.media.read.video.tone_map import transfer

_AT_ONCE = 16  # frames of full size in memory
_LOOK_PACKETS = 64  # a stream whose first frame is not among them is decoded by PyAV
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # in others its seeking misses the frame


def check_installed() -> None:
    """Raise UsageError unless torchcodec can be imported; it says what to do."""
    try:
        import torchcodec.decoders  # noqa: F401
    except ImportError:
        raise UsageError("data.reader=torchcodec needs torchcodec: pip install mmattn[torchcodec]") from None
    except (RuntimeError, OSError) as error:  # the wrong torch, or no FFmpeg that it knows
        why = one_line(error)
        raise UsageError(f"data.reader=torchcodec: torchcodec cannot be loaded ({why}); set data.reader=av") from None


def decode_with_torchcodec(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
    device: str = "cpu",
) -> DecodedClip:
    """As decode.decode, with the video decoded by torchcodec on `device`; the frames are returned in CPU memory."""
    path = name_of(src)
    reading = Reading(src, path, request, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)

    def with_av(request: Request) -> DecodedClip:
        return decode(request, src, limits, deadline_s, follow_symlinks)

    with reading.open() as container:
        chosen = reading.choose(container)
        video = chosen.video if request.video else None
        if video is None:
            return with_av(request)
        index, early = video.index, slack(video)  # nothing of a stream is valid after its container is closed
        render = renderer(request, video)
        same = container.format.name in _INDEXED and _is_plain(container, video)
    grid = reading.grid(measured_extent(reading) if request.needs_extent else 0.0)
    images = _Decoder(reading, index, device).at(grid, chosen.origin, early, render) if same else []
    if not len(grid):
        return with_av(request)
    if len(images) < len(grid):
        exact = with_av(request)
        return replace(exact, issues=tuple(sorted({*exact.issues, "pyav_frames"})))
    span = (request.start, 0.0)
    audio = DecodedClip(None, grid[:0], None, request.audio_rate or 0, request.start, path, span, None, ())
    if request.audio:
        audio = with_av(replace(request, video=False))
    issues = set(audio.issues) | set(chosen.issues) | render.issues - {"format_change"}
    end = max(audio.span[1], float(grid[-1]))
    return replace(
        audio,
        frames=stacked(images),
        frame_times=grid[: len(images)].copy(),
        span=(request.start, end if request.end is None else request.end),
        issues=tuple(sorted(issues)),
    )


def _is_plain(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the first decoded frame needs nothing but scaling. The container cannot be used for more afterwards."""
    packets = itertools.islice(demux(container, stream), _LOOK_PACKETS)
    for frame in itertools.chain.from_iterable(frames_of(packet, set()) for packet in packets):
        if isinstance(frame, VideoFrame):
            special = frame.interlaced_frame or transfer(frame.color_trc) or is_assumed(frame)
            return orientation(frame).is_upright and not special
    return False


class _Decoder:
    """torchcodec's decoder of one stream of one file."""

    def __init__(self, reading: Reading, index: int, device: str) -> None:
        self.reading, self.index, self.device = reading, index, device

    def at(self, grid: np.ndarray, origin: float, slack_s: float, render: Renderer) -> list[np.ndarray]:
        """The frame shown at each time of `grid` (s after `origin`), up to the first that cannot be decoded."""
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

        path = self.reading.path
        with open_source(self.reading.src, self.reading.follow_symlinks) as content:
            before, file = content.stamp(), NamelessFile(content, self.reading.deadline)
            try:
                decoder: Any = VideoDecoder(
                    file,  # type: ignore[arg-type]
                    stream_index=self.index,
                    device=self.device,
                    dimension_order="NHWC",
                )
                metadata = decoder.metadata
                low, high = metadata.begin_stream_seconds, metadata.end_stream_seconds
                wanted = np.maximum(grid + origin + slack_s, low)
                wanted = wanted[wanted - slack_s < high - 1e-6]
                wanted = np.minimum(wanted, np.nextafter(high, low))
                images: list[np.ndarray] = []
                for times in np.split(wanted, range(_AT_ONCE, len(wanted), _AT_ONCE)):
                    if len(times):
                        images += self._rendered(decoder.get_frames_played_at(times.tolist()), render, len(wanted))
                    self.reading.deadline.check()
            except (RuntimeError, ValueError, IndexError) as error:
                self.reading.deadline.check()
                if file.error is not None:
                    raise MediaError(path, "unreadable", one_line(file.error)) from error
                return []
            if content.stamp() != before:
                raise MediaError(path, "changed", CHANGED)
        return images

    def _rendered(self, batch: Any, render: Renderer, count: int) -> list[np.ndarray]:
        images: list[np.ndarray] = []
        for pixels in batch.data.cpu().numpy():
            images.append(render(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            check_size(images[-1], count, self.reading.path, self.reading.limits)
        return images
