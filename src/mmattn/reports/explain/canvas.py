"""Draws one moment of an explained file: its picture under the heat, weightings over time, the spectrogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mmattn.data.prepare.clips import ClipSpec
from mmattn.reports.explain.explained import Explained, ExplainedWindow, split_of
from mmattn.reports.explain.heat import blend, heat_of, hottest, nearest_step, spectrum, spread
from mmattn.reports.text import clean
from mmattn.types import Modality

STRIP, SPECTRUM, LINE, WIDTH = 64, 96, 18, 480  # px; WIDTH: at least
PAPER, INK, DIM = (20, 23, 26), (232, 234, 237), (140, 148, 158)
PICTURE, SOUND = (86, 180, 233), (242, 142, 60)


@dataclass(frozen=True)
class Layout:
    """Sizes of a frame in px."""

    width: int
    picture: int  # its height; 0 without a picture
    header: int

    @property
    def height(self) -> int:
        """Of the whole frame, even as codecs need it."""
        total = self.header + self.picture + STRIP + SPECTRUM + 2 * LINE
        return total + total % 2


class FrameCanvas:
    """Draws moments in order of time; what is the same for a window is drawn once."""

    def __init__(self, found: Explained, layout: Layout, spec: ClipSpec, attention: bool) -> None:
        self.found, self.layout, self.spec, self.attention = found, layout, spec, attention
        self.font = ImageFont.load_default(13)
        self._window: ExplainedWindow | None = None
        self._base = Image.new("RGB", (layout.width, layout.height), PAPER)
        self._heat: dict[int, np.ndarray] = {}
        self.hottest = hottest(found, attention) or 1.0

    def draw(self, time: float, picture: np.ndarray | None) -> np.ndarray:
        """The frame (H, W, 3) uint8 at `time`, with the file's picture (h, w, 3) if it has one."""
        window = next((w for w in self.found.windows if time < w.end), self.found.windows[-1])
        if window is not self._window:
            self._window, self._heat = window, {}
            self._base = self._draw_base(window)
        image = self._base.copy()
        top = self.layout.header
        if picture is not None:
            left = (self.layout.width - picture.shape[1]) // 2
            image.paste(Image.fromarray(self._heated(window, time, picture)), (left, top))
        x = self._across(window, time)
        pen = ImageDraw.Draw(image)
        low = top + self.layout.picture
        pen.line([(x, low + LINE), (x, low + 2 * LINE + STRIP + SPECTRUM)], fill=INK, width=1)
        pen.text((self.layout.width - 62, 2), f"{time:7.2f} s", fill=INK, font=self.font)
        return np.asarray(image)

    def _across(self, window: ExplainedWindow, time: float) -> float:
        span = max(window.end - window.shown, 1e-6)
        return (self.layout.width - 1) * min(max((time - window.shown) / span, 0.0), 1.0)

    def _heated(self, window: ExplainedWindow, time: float, picture: np.ndarray) -> np.ndarray:
        steps = window.streams.get("video")
        if steps is None:
            return picture
        step = nearest_step(steps, time)
        if step not in self._heat:
            self._heat[step] = spread(heat_of(steps, self.attention)[step] / self.hottest, picture.shape[:2])
        return blend(picture, self._heat[step])

    def _draw_base(self, window: ExplainedWindow) -> Image.Image:
        image = Image.new("RGB", (self.layout.width, self.layout.height), PAPER)
        pen = ImageDraw.Draw(image)
        pen.text((6, 2), "tag, score: from picture / sound / both (Shapley, whole file)", fill=DIM, font=self.font)
        for i, tag in enumerate(self.found.tags):
            split = split_of(self.found, i)
            parts = f"{split['video']:+.2f} / {split['audio']:+.2f} / {split['synergy']:+.2f}"
            mark = ("attention: " if self.attention else "heat: ") if i == 0 else ""
            text = f"{mark}{clean(tag)[:40]} {split['score']:.2f}: {parts}"
            pen.text((6, LINE * (i + 1)), text, fill=INK if i == 0 else DIM, font=self.font)
        low = self.layout.header + self.layout.picture
        self._draw_strip(pen, window, low)
        self._draw_spectrum(image, window, low + 2 * LINE + STRIP)
        return image

    def _draw_strip(self, pen: ImageDraw.ImageDraw, window: ExplainedWindow, top: int) -> None:
        """Attention mass on audio (descriptive) as a line; what the tag owes to each moment of a stream as bars."""
        key = "causal: picture up, sound down; line: share of attention on sound"
        pen.text((6, top + 1), key, fill=DIM, font=self.font)
        base, half = top + LINE + STRIP // 2, STRIP // 2 - 2
        moments: dict[Modality, torch.Tensor] = {
            name: steps.causal[0].sum(dim=-1).clamp(min=0) for name, steps in window.streams.items()
        }
        most = max((float(m.max()) for m in moments.values()), default=0.0) or 1.0
        for name, moment in moments.items():
            times, up = window.streams[name].times, name == "video"
            wide = max(1.0, self.layout.width / max(1, len(times)) - 1)
            for time, value in zip(times.tolist(), moment.tolist(), strict=True):
                if window.shown <= time < window.end + 1e-3:
                    x, tall = self._across(window, time), half * value / most
                    ends = (base - tall, base) if up else (base, base + tall)
                    pen.rectangle([x - wide / 2, ends[0], x + wide / 2, ends[1]], fill=PICTURE if up else SOUND)
        for steps in window.streams.values():
            if steps.audio_mass is not None:
                points = [
                    (self._across(window, t), base + half - 2 * half * m)
                    for t, m in zip(steps.times.tolist(), steps.audio_mass.tolist(), strict=True)
                    if t >= window.shown
                ]
                if len(points) > 1:
                    pen.line(points, fill=INK, width=1)

    def _draw_spectrum(self, image: Image.Image, window: ExplainedWindow, top: int) -> None:
        pen = ImageDraw.Draw(image)
        steps = window.streams.get("audio")
        if steps is None or not len(window.spectrogram):
            pen.text((6, top + SPECTRUM // 2 - 8), "no sound", fill=DIM, font=self.font)
            return
        hop = self.spec.hop_s
        first = max(0, round((window.shown - window.start) / hop))
        last = round((window.end - window.start) / hop)
        grey = spectrum(window.spectrogram[first:last], SPECTRUM)
        wide = max(1, round(self.layout.width * len(window.spectrogram[first:last]) / max(1, last - first)))
        grey = np.asarray(Image.fromarray(grey).resize((min(wide, self.layout.width), SPECTRUM)))
        times = window.shown + (np.arange(grey.shape[1]) + 0.5) / self.layout.width * (window.end - window.shown)
        near = np.abs(steps.times.numpy()[:, None] - times).argmin(0)
        heat = (heat_of(steps, self.attention) / self.hottest).numpy()[near]  # (W, P): bands from low to high
        heat = np.asarray(
            Image.fromarray(np.ascontiguousarray(heat.T[::-1], np.float32)).resize((grey.shape[1], SPECTRUM))
        )
        image.paste(Image.fromarray(blend(np.repeat(grey[..., None], 3, axis=2), heat)), (0, top))
