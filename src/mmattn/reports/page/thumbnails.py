"""A few frames of a file as data: URIs; none where the file cannot be read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import resize, to_pil_image

from mmattn.errors import MediaError
from mmattn.media.read.request import Request
from mmattn.reports.html import data_uri
from mmattn.types import Clip

WIDTH, MAX_HEIGHT = 160, 240  # px; the height limits upright videos
FRAMES = 4
_UNKNOWN_SPAN = (0.0, 1.0)  # s

Reader = Callable[[str, Request], Clip]


def thumbnails(path: str, span: tuple[float, float] | None, reader: Reader) -> list[str]:
    """JPEG data: URIs of moments evenly spread over `span` (s), in the picture's own proportions; [] without a picture.

    `reader` is IsolatedReader.read, as the file may be malformed.
    """
    start, end = span if span is not None and 0 <= span[0] < span[1] else _UNKNOWN_SPAN
    times = tuple(start + (end - start) * (k + 0.5) / FRAMES for k in range(FRAMES))
    try:
        if not Path(path).is_file():
            return []
        # Starting near the first time lets the decoder seek.
        clip = reader(path, Request(times=times, start=max(times[0] - 0.1, 0.0), audio=False))
    except (MediaError, ValueError, OSError):
        return []
    return [] if clip.frames is None else to_jpegs(clip.frames)


def to_jpegs(frames: torch.Tensor) -> list[str]:
    """(T, 3, H, W) uint8 as JPEG data: URIs of at most WIDTH x MAX_HEIGHT, in the picture's own proportions."""
    height, width = frames.shape[-2:]
    factor = min(WIDTH / width, MAX_HEIGHT / height)
    small = resize(frames, [max(round(height * factor), 1), max(round(width * factor), 1)])
    return [_jpeg(frame) for frame in small]


def _jpeg(frame: torch.Tensor) -> str:
    data = io.BytesIO()
    to_pil_image(frame).save(data, format="JPEG", quality=80)
    return data_uri("image/jpeg", data.getvalue())
