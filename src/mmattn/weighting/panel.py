"""Small clips for a dashboard: the frames of a clip with the modality weightings of its tags drawn below.

From the top: the frame; the attention of the video tokens on audio over time (descriptive), with its prior; the
spectrogram with a playhead; the highest tags with their scores and Shapley splits (causal), to one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmattn.model import AVModel
from mmattn.types import Batch, LayerStats, Tokens
from mmattn.weighting.causal import SUBSETS, ShapleySplit, shapley, subset_scores

WIDTH, PICTURE, STRIP, SPECTRUM, LINE = 320, 192, 40, 48, 18  # px
PAPER, INK, DIM = (20, 23, 26), (232, 234, 237), (140, 148, 158)
VIDEO, AUDIO = (86, 180, 233), (242, 142, 60)  # distinct for colour-blind people too
TAGS = 4
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class ClipPanel:
    """One clip: `frames` (T, H, W, 3) uint8 at `fps`, with a caption of one line."""

    id: str
    frames: np.ndarray
    fps: float
    caption: str


def clip_panels(model: AVModel, batch: Batch, limit: int) -> list[ClipPanel]:
    """Panels of the first `limit` real clips that have video; [] for a batch of precomputed features.

    The model runs in any case: with sharded weights the other processes wait for it.
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
        attention = _attention_on_audio(fused.stats, video, clip)
        own = {subset: scores[subset][clip] for subset in SUBSETS}
        tags = _Tags(names, own["both"], ShapleySplit(split.video[clip], split.audio[clip], split.synergy[clip]))
        panels.append(_panel(batch, clip, attention, tags))
    return panels


@dataclass(frozen=True)
class _Tags:
    names: tuple[str, ...]
    scores: Tensor  # (K,)
    split: ShapleySplit[Tensor]

    @property
    def highest(self) -> list[int]:
        return self.scores.topk(min(TAGS, len(self.names))).indices.tolist()

    def line(self, tag: int) -> str:
        return f"{self.names[tag]} {float(self.scores[tag]):.2f}"


@dataclass(frozen=True)
class _AudioAttention:
    """Attention mass on audio of the video tokens, mean over heads and layers."""

    times: Tensor
    mass: Tensor
    prior: float


def _attention_on_audio(stats: tuple[LayerStats, ...], video: Tokens, clip: int) -> _AudioAttention | None:
    """None if the video tokens do not attend to audio."""
    layers = [s for s in stats if s.stream == "video" and "audio" in s.mass and s.query_keep.shape == video.keep.shape]
    keep = video.keep[clip]
    if not layers or not float(layers[0].prior["audio"][clip]) > 0:
        return None
    mass = torch.stack([layer.mass["audio"][clip].mean(dim=0) for layer in layers]).mean(dim=0)  # (L,)
    prior = sum(float(layer.prior["audio"][clip]) for layer in layers) / len(layers)
    times, order = video.times[clip][keep].sort()
    return _AudioAttention(times.cpu(), mass[keep][order].cpu(), prior)


def _panel(batch: Batch, clip: int, attention: _AudioAttention | None, tags: _Tags) -> ClipPanel:
    keep = batch.frame_keep[clip]
    frames = batch.frames[clip][keep].permute(0, 2, 3, 1).cpu().numpy()
    times = batch.frame_times[clip][keep].tolist()
    rows = batch.spectrogram_keep[clip]
    spectrogram = batch.spectrogram[clip][rows].float().cpu()
    covered = [*times, *batch.spectrogram_times[clip][rows].tolist()]
    scale = _Scale(min(covered), max(covered))
    below = _below(attention, spectrogram, tags, scale)
    drawn = np.stack([_frame(frame, below, scale.x(time)) for frame, time in zip(frames, times, strict=True)])
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 1.0
    return ClipPanel(batch.ids[clip], drawn, fps, ", ".join(map(tags.line, tags.highest)))


@dataclass(frozen=True)
class _Scale:
    """Seconds to pixels."""

    start: float
    end: float

    def x(self, time: float) -> int:
        return round((time - self.start) / max(self.end - self.start, 1e-6) * (WIDTH - 1))


def _below(attention: _AudioAttention | None, spectrogram: Tensor, tags: _Tags, scale: _Scale) -> Image.Image:
    """The part below the frame, which is the same for all frames."""
    image = Image.new("RGB", (WIDTH, STRIP + SPECTRUM + LINE * TAGS + LINE), PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    _draw_attention(pen, font, attention, scale)
    if len(spectrogram):
        low, high = float(spectrogram.min()), float(spectrogram.max())
        grey = ((spectrogram - low) / max(high - low, 1e-6) * 255).to(torch.uint8).T.flip(0).contiguous().numpy()
        image.paste(Image.fromarray(grey).resize((WIDTH, SPECTRUM)), (0, STRIP))
    else:
        pen.text((4, STRIP + SPECTRUM // 3), "no audio", DIM, font)
    middle, half = WIDTH * 3 // 4, WIDTH // 4 - 6  # a share of 1 fills a half
    pen.text((4, STRIP + SPECTRUM + 2), "tag, score", DIM, font)
    pen.text((middle - half, STRIP + SPECTRUM + 2), "from video, audio", DIM, font)
    for row, tag in enumerate(tags.highest):
        top = STRIP + SPECTRUM + LINE * (row + 1)
        pen.text((4, top + 2), tags.line(tag)[:34], INK, font)
        for share, colour, y in ((tags.split.video[tag], VIDEO, top + 2), (tags.split.audio[tag], AUDIO, top + 9)):
            edge = middle + round(max(-1.0, min(1.0, float(share))) * half)
            pen.rectangle((min(middle, edge), y, max(middle, edge), y + 5), fill=colour)
        pen.line((middle, top, middle, top + LINE), DIM)
    return image


def _draw_attention(pen: ImageDraw.ImageDraw, font: Font, attention: _AudioAttention | None, scale: _Scale) -> None:
    if attention is None:
        pen.text((4, STRIP // 3), "no attention on audio", DIM, font)
        return
    heights = ((1 - attention.mass) * (STRIP - 1)).round().int().tolist()
    points = list(zip(map(scale.x, attention.times.tolist()), heights, strict=True))
    prior = round((1 - attention.prior) * (STRIP - 1))
    pen.line((0, prior, WIDTH, prior), DIM)
    pen.line(points, AUDIO, 2)
    pen.text((4, 1), "video's attention on audio (grey: uniform)", DIM, font)


def _frame(frame: np.ndarray, below: Image.Image, playhead: int) -> np.ndarray:
    image = Image.new("RGB", (WIDTH, PICTURE + below.height), PAPER)
    height, width = frame.shape[:2]
    factor = min(WIDTH / width, PICTURE / height)
    size = round(width * factor), round(height * factor)
    image.paste(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST), ((WIDTH - size[0]) // 2, 0))
    image.paste(below, (0, PICTURE))
    ImageDraw.Draw(image).line((playhead, PICTURE, playhead, PICTURE + STRIP + SPECTRUM), INK)
    return np.asarray(image)
