"""Small clips for a dashboard: the frames a model got, with what its tags owe to picture and sound drawn below.

From the top: the picture; what the attention of the picture's tokens looks at over time (descriptive), with its prior;
the spectrogram with a playhead; the highest tags with their score and Shapley split (causal), to one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmattn.model import AVModel
from mmattn.types import Batch, LayerStats, Tokens
from mmattn.weighting.causal import SUBSETS, Split, shapley, subset_scores

WIDTH, PICTURE, STRIP, SPECTRUM, LINE = 320, 192, 40, 48, 18  # px
PAPER, INK, DIM = (20, 23, 26), (232, 234, 237), (140, 148, 158)
SEEN, HEARD = (86, 180, 233), (242, 142, 60)  # picture and sound, apart for colour-blind eyes too
TAGS = 4


@dataclass(frozen=True)
class Panel:
    """One clip: `frames` (T, H, W, 3) uint8 at `fps`, and a line about it."""

    id: str
    frames: np.ndarray
    fps: float
    caption: str


def clip_panels(model: AVModel, batch: Batch, limit: int) -> list[Panel]:
    """Panels of the first `limit` real clips that have a picture. None for batches that carry features instead.

    The model runs whatever the clips are: where processes share its weights out, the others wait for it.
    """
    if not batch.frames.numel():
        return []
    with torch.no_grad():
        video, audio = model.encode(batch)
        fused = model.fuse(video, audio, frozenset({"mass"}))
        scores = subset_scores(model, video, audio, fused)
    chosen = (batch.real & batch.frame_keep.any(dim=1)).nonzero()[:limit, 0].tolist()
    split = shapley(scores)
    names = model.task.vocabulary.names
    panels = []
    for clip in chosen:
        looks = _mass_on_sound(fused.stats, video, clip)
        own = {subset: scores[subset][clip] for subset in SUBSETS}
        tags = _Tags(names, own["both"], Split(split.video[clip], split.audio[clip], split.synergy[clip]))
        panels.append(_panel(batch, clip, looks, tags))
    return panels


@dataclass(frozen=True)
class _Tags:
    names: tuple[str, ...]
    scores: Tensor  # (K,)
    split: Split[Tensor]

    @property
    def highest(self) -> list[int]:
        return self.scores.topk(min(TAGS, len(self.names))).indices.tolist()

    def line(self, tag: int) -> str:
        return f"{self.names[tag]} {float(self.scores[tag]):.2f}"


@dataclass(frozen=True)
class _Looks:
    """Attention mass on sound of the picture's tokens, mean over heads and layers."""

    times: Tensor
    mass: Tensor
    prior: float


def _mass_on_sound(stats: tuple[LayerStats, ...], video: Tokens, clip: int) -> _Looks | None:
    """None where the picture's tokens have no sound to look at."""
    layers = [s for s in stats if s.stream == "video" and "audio" in s.mass and s.query_keep.shape == video.keep.shape]
    keep = video.keep[clip]
    if not layers or not float(layers[0].prior["audio"][clip]) > 0:
        return None
    mass = torch.stack([layer.mass["audio"][clip].mean(dim=0) for layer in layers]).mean(dim=0)  # (L,)
    prior = sum(float(layer.prior["audio"][clip]) for layer in layers) / len(layers)
    times, order = video.times[clip][keep].sort()
    return _Looks(times.cpu(), mass[keep][order].cpu(), prior)


def _panel(batch: Batch, clip: int, looks: _Looks | None, tags: _Tags) -> Panel:
    keep = batch.frame_keep[clip]
    frames = batch.frames[clip][keep].permute(0, 2, 3, 1).cpu().numpy()
    times = batch.frame_times[clip][keep].tolist()
    heard = batch.spectrogram_keep[clip]
    sound = batch.spectrogram[clip][heard].float().cpu()
    covered = [*times, *batch.spectrogram_times[clip][heard].tolist()]
    scale = _Scale(min(covered), max(covered))
    below = _below(looks, sound, tags, scale)
    drawn = np.stack([_frame(frame, below, scale.x(time)) for frame, time in zip(frames, times, strict=True)])
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 1.0
    return Panel(batch.ids[clip], drawn, fps, ", ".join(map(tags.line, tags.highest)))


@dataclass(frozen=True)
class _Scale:
    """Seconds to pixels."""

    start: float
    end: float

    def x(self, time: float) -> int:
        return round((time - self.start) / max(self.end - self.start, 1e-6) * (WIDTH - 1))


def _below(looks: _Looks | None, sound: Tensor, tags: _Tags, scale: _Scale) -> Image.Image:
    """All that is the same in each frame."""
    image = Image.new("RGB", (WIDTH, STRIP + SPECTRUM + LINE * TAGS + LINE), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    _draw_looks(pen, font, looks, scale)
    if len(sound):
        low, high = float(sound.min()), float(sound.max())
        grey = ((sound - low) / max(high - low, 1e-6) * 255).to(torch.uint8).T.flip(0).contiguous().numpy()
        image.paste(Image.fromarray(grey).resize((WIDTH, SPECTRUM)), (0, STRIP))
    else:
        pen.text((4, STRIP + SPECTRUM // 3), "no sound", DIM, font)
    middle, half = WIDTH * 3 // 4, WIDTH // 4 - 6  # a share of 1 fills a half
    pen.text((4, STRIP + SPECTRUM + 2), "tag, score", DIM, font)
    pen.text((middle - half, STRIP + SPECTRUM + 2), "owed to picture, sound", DIM, font)
    for row, tag in enumerate(tags.highest):
        top = STRIP + SPECTRUM + LINE * (row + 1)
        pen.text((4, top + 2), tags.line(tag)[:34], INK, font)
        for share, colour, y in ((tags.split.video[tag], SEEN, top + 2), (tags.split.audio[tag], HEARD, top + 9)):
            edge = middle + round(max(-1.0, min(1.0, float(share))) * half)
            pen.rectangle((min(middle, edge), y, max(middle, edge), y + 5), fill=colour)
        pen.line((middle, top, middle, top + LINE), DIM)
    return image


def _draw_looks(pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, looks: _Looks | None,
                scale: _Scale) -> None:  # fmt: skip
    if looks is None:
        pen.text((4, STRIP // 3), "no attention on sound", DIM, font)
        return
    heights = ((1 - looks.mass) * (STRIP - 1)).round().int().tolist()
    points = list(zip(map(scale.x, looks.times.tolist()), heights, strict=True))
    prior = round((1 - looks.prior) * (STRIP - 1))
    pen.line((0, prior, WIDTH, prior), DIM)
    pen.line(points, HEARD, 2)
    pen.text((4, 1), "picture's attention on sound (grey: uniform)", DIM, font)


def _frame(frame: np.ndarray, below: Image.Image, playhead: int) -> np.ndarray:
    image = Image.new("RGB", (WIDTH, PICTURE + below.height), PAPER)
    height, width = frame.shape[:2]
    factor = min(WIDTH / width, PICTURE / height)
    size = round(width * factor), round(height * factor)
    image.paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST), ((WIDTH - size[0]) // 2, 0))
    image.paste(below, (0, PICTURE))
    ImageDraw.Draw(image).line((playhead, PICTURE, playhead, PICTURE + STRIP + SPECTRUM), INK)
    return np.asarray(image)
