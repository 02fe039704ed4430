"""A few frames of a file as data: URIs. A file that cannot be read has no picture, and that is all."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import resize, to_pil_image

from mmattn.errors import MediaError
from mmattn.media.read.request import Request
from mmattn.types import Clip

WIDTH, MAX_HEIGHT = 160, 240  # px; the height matters for upright films
FRAMES = 4
_UNKNOWN_SPAN = (0.0, 1.0)  # s

Reader = Callable[[str, Request], Clip]


def thumbnails(path: str, span: tuple[float, float] | None, reader: Reader) -> list[str]:
    """JPEG data: URIs of moments evenly spread over `span` (s), in the picture's own proportions; [] without a picture.

    `reader` is IsolatedReader.read: decoders meet files that nobody vouches for.
    """
    start, end = span if span is not None and 0 <= span[0] < span[1] else _UNKNOWN_SPAN
    times = tuple(start + (end - start) * (k + 0.5) / FRAMES for k in range(FRAMES))
    try:
        if not Path(path).is_file():
            return []
        # Starting near the first time lets a far span be sought.
        clip = reader(path, Request(times=times, start=max(times[0] - 0.1, 0.0), audio=False))
    except (MediaError, ValueError, OSError):
        return []
    return [] if clip.frames is None else to_jpegs(clip.frames)


def to_jpegs(frames: torch.Tensor) -> list[str]:
    """(T, 3, H, W) uint8 as small JPEG data: URIs in the picture's own proportions."""
    return [_jpeg(frame) for frame in _small(frames)]


def _small(frames: torch.Tensor) -> torch.Tensor:
    """(T, 3, H, W) uint8 scaled to at most WIDTH x MAX_HEIGHT."""
    height, width = frames.shape[-2:]
    factor = min(WIDTH / width, MAX_HEIGHT / height)
    return resize(frames, [max(round(height * factor), 1), max(round(width * factor), 1)])


def _jpeg(frame: torch.Tensor) -> str:
    data = io.BytesIO()
    to_pil_image(frame).save(data, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
