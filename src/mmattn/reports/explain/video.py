"""The explained file as a video: its own pictures and sound, with what its tags owe to what burned in.

Frame k shows the file at k / fps: its picture with the heat over it, the strip of weightings with a playhead, and the
spectrogram with the heat over it. Everything is of that instant.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import interpolate

from mmattn.data.prepare.clips import ClipSpec
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.probe import probe
from mmattn.media.read.replay import even_size, replay
from mmattn.media.write.clips import writing_video
from mmattn.reports.explain.explained import Explained, ExplainedWindow, Steps, split_of
from mmattn.reports.text import clean
from mmattn.types import Modality

MAX_FPS, SOUND_HZ = 30, 48000
STRIP, SPECTRUM, LINE, WIDTH = 64, 96, 18, 480  # px; WIDTH: at least
PAPER, INK, DIM = (20, 23, 26), (232, 234, 237), (140, 148, 158)
PICTURE, SOUND, AGAINST = (86, 180, 233), (242, 142, 60), (60, 90, 220)
HOT = (255, 176, 0)
STILLS = 6


@dataclass(frozen=True)
class Layout:
    width: int
    picture: int  # height of the picture, 0: there is none
    header: int

    @property
    def height(self) -> int:
        total = self.header + self.picture + STRIP + SPECTRUM + 2 * LINE
        return total + total % 2


@dataclass(frozen=True)
class Still:
    """One moment of the video, for a page, as JPEG."""

    time: float
    frame: bytes


def write_overlay(
    found: Explained, spec: ClipSpec, reader: IsolatedReader, path: Path, height: int, attention: bool = False
) -> list[Still]:
    """Write the video; returns a few moments of it. `attention`: its heat is what is looked at, not what causes.

    Raises MediaError where the file can no longer be read.
    """
    told = probe(found.path, follow_symlinks=True, deadline_s=60.0)
    fps = Fraction(min(MAX_FPS, max(8.0, told.video.fps or 25.0)) if told.video else 25).limit_denominator(1001)
    size = told.video and even_size(told.video.shown_size, height)
    tall, wide = size or (0, WIDTH)
    layout = Layout(max(WIDTH, wide), tall, LINE * (len(found.tags) + 1))
    end = found.windows[-1].end
    canvas = _Canvas(found, layout, spec, attention)
    rate = SOUND_HZ if found.has("audio") or told.audio is not None else None
    moments = [end * (k + 0.5) / STILLS for k in range(STILLS)]
    stills: list[Still] = []
    with writing_video(path, (layout.height, layout.width), fps, rate, options={"crf": "20"}) as writer:
        for piece in replay(found.path, reader, fps, end, size, rate):
            for k, time in enumerate(piece.times):
                picture = None if piece.frames is None or k >= len(piece.frames) else piece.frames[k]
                pixels = canvas.draw(time, picture)
                writer.show(pixels)
                if len(stills) < STILLS and time >= moments[len(stills)]:
                    stills.append(Still(time, _jpeg(pixels)))
            if piece.samples is not None:
                writer.sound(piece.samples)
    return stills


def heat_of(steps: Steps, attention: bool) -> torch.Tensor:
    """Of the first tag, (S, P): causal, or by how much more than an even share each place is looked at (0.5: by half).

    Attention never is 0, so its share itself would colour all places alike.
    """
    if not attention or steps.looked is None:
        return steps.causal[0]
    looked = steps.looked[0]
    return (looked / looked.mean().clamp(min=1e-12) - 1).clamp(min=0.0)


def hottest(found: Explained, attention: bool) -> float:
    """What full colour stands for: the most of any token; of attention, 1, which is twice an even share."""
    if attention:
        return 1.0
    hot = [float(heat_of(s, False).abs().max()) for w in found.windows for s in w.streams.values()]
    return max(hot, default=0.0)


def _jpeg(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="JPEG", quality=80)
    return data.getvalue()


class _Canvas:
    """Draws one moment after the other; what stays the same for a window is drawn once."""

    def __init__(self, found: Explained, layout: Layout, spec: ClipSpec, attention: bool) -> None:
        self.found, self.layout, self.spec, self.attention = found, layout, spec, attention
        self.font = ImageFont.load_default(13)
        self._window: ExplainedWindow | None = None
        self._base = Image.new("RGB", (layout.width, layout.height), PAPER)
        self._heat: dict[int, np.ndarray] = {}
        self.hottest = hottest(found, attention) or 1.0

    def _heat_of(self, steps: Steps) -> torch.Tensor:
        """Of the first tag, (S, P)."""
        return heat_of(steps, self.attention)

    def draw(self, time: float, picture: np.ndarray | None) -> np.ndarray:
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
            self._heat[step] = spread(self._heat_of(steps)[step] / self.hottest, picture.shape[:2])
        return blend(picture, self._heat[step])

    def _draw_base(self, window: ExplainedWindow) -> Image.Image:
        image = Image.new("RGB", (self.layout.width, self.layout.height), PAPER)
        pen = ImageDraw.Draw(image)
        pen.text((6, 2), "tag, score: owed to picture / sound / both (Shapley, whole file)", fill=DIM, font=self.font)
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
        """Attention mass on sound (descriptive) as a line; what the tag owes to each stream's moments as bars."""
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
                    box = (
                        [x - wide / 2, base - tall, x + wide / 2, base]
                        if up
                        else [x - wide / 2, base, x + wide / 2, base + tall]
                    )
                    pen.rectangle(box, fill=PICTURE if up else SOUND)
        for steps in window.streams.values():
            if steps.sound_mass is not None:
                points = [
                    (self._across(window, t), base + half - 2 * half * m)
                    for t, m in zip(steps.times.tolist(), steps.sound_mass.tolist(), strict=True)
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
        heat = (self._heat_of(steps) / self.hottest).numpy()[near]  # (W, P): bands from low to high
        heat = np.asarray(
            Image.fromarray(np.ascontiguousarray(heat.T[::-1], np.float32)).resize((grey.shape[1], SPECTRUM))
        )
        image.paste(Image.fromarray(blend(np.repeat(grey[..., None], 3, axis=2), heat)), (0, top))


def blend(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) under heat (H, W) in [-1, 1]: warm where it speaks for the tag, blue where against it."""
    share = 0.65 * np.abs(np.clip(heat, -1, 1))[..., None]
    colour = np.where(heat[..., None] >= 0, np.array(HOT, np.float32), np.array(AGAINST, np.float32))
    return (picture * (1 - share) + colour * share).astype(np.uint8)


def nearest_step(steps: Steps, time: float) -> int:
    """The step whose instant is nearest to `time`."""
    return int((steps.times - time).abs().argmin())


def spread(places: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Values (P,) of places, row by row, as an image (H, W) in [-1, 1]; their mean everywhere where P is no square."""
    side = round(len(places) ** 0.5)
    grid = places.view(1, 1, side, side) if side * side == len(places) else places.mean().view(1, 1, 1, 1)
    return interpolate(grid.float(), size, mode="bilinear", align_corners=False)[0, 0].clamp(-1, 1).numpy()


def spectrum(rows: torch.Tensor, height: int) -> np.ndarray:
    """A spectrogram (F, M) as a grey image (height, F) uint8, low bands below."""
    low, high = float(rows.min()), float(rows.max())
    grey = ((rows - low) / max(high - low, 1e-6) * 200).to(torch.uint8).numpy().T[::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((grey.shape[1], height)))
