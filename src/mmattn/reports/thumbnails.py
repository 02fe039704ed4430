"""A few frames of a file as data: URIs. A file that cannot be read has no picture, and that is all."""

from __future__ import annotations

import base64
from pathlib import Path

import torch
from torchvision.io import encode_jpeg

from mmattn.errors import MediaError
from mmattn.media.decode import read_clip
from mmattn.media.probe import VideoInfo, probe
from mmattn.types import Clip

WIDTH = 160  # px
MAX_HEIGHT = 240  # px, for upright films
_DEADLINE_S = 20.0
_UNKNOWN_SPAN_S = 1.0


def thumbnails(path: str, span: tuple[float, float] | None, count: int = 4, width: int = WIDTH) -> list[str]:
    """JPEG data: URIs of `count` moments of `span` (s), evenly spread; [] when there is no readable picture."""
    start, end = span if span is not None and span[0] < span[1] else (0.0, _UNKNOWN_SPAN_S)
    times = [start + (end - start) * (k + 0.5) / count for k in range(count)]
    try:
        if "\0" in path or not Path(path).exists():
            return []
        video = probe(path, deadline_s=_DEADLINE_S, follow_symlinks=True).video
        if video is None:
            return []
        clip = _read(path, times, _size(video, width))
    except (MediaError, ValueError, OSError):
        return []
    if clip.frames is None:
        return []
    return [_jpeg(frame) for frame in clip.frames]


def _read(path: str, times: list[float], size: tuple[int, int]) -> Clip:
    return read_clip(
        path,
        times=times,
        start=max(times[0] - 0.1, 0.0),  # lets a far span be sought
        size=size,
        audio=False,
        deadline_s=_DEADLINE_S,
        follow_symlinks=True,
    )


def _size(video: VideoInfo, width: int) -> tuple[int, int]:
    """(height, width) of the upright picture in its own proportions."""
    wide, high = (video.height, video.width) if video.rotation % 180 else (video.width, video.height)
    if wide < 1 or high < 1:
        return width * 9 // 16, width
    factor = min(width / wide, MAX_HEIGHT / high)
    return max(round(high * factor), 1), max(round(wide * factor), 1)


def _jpeg(frame: torch.Tensor) -> str:
    data = encode_jpeg(frame.contiguous(), quality=80).numpy().tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
