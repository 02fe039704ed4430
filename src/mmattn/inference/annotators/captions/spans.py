"""Cuts a file into spans with their frames and audio, at shots or at even times, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.network import RATE
from mmattn.inference.annotators.base.interface import FileWindow
from mmattn.inference.shots.cuts import CutFinder
from mmattn.types import Modality

_LAG_S, _LAG_FRAMES = 0.8, 6  # how late a cut is found at most
_MIN_S = 0.1  # of audio that is used, and of a last shot
_EDGE_S = 1e-3


@dataclass(frozen=True)
class CaptionSpan:
    """[start, end) s of a file. `frames`: None without video. `waveform`: at 16 kHz, None without audio."""

    start: float
    end: float
    frames: UInt8[Tensor, "T 3 H W"] | None
    waveform: Float[Tensor, " N"] | None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the span has."""
        return (*(("video",) if self.frames is not None else ()), *(("audio",) if self.waveform is not None else ()))


class SpanGatherer:
    """`add` yields the spans that are complete, `finish` the rest. Memory holds little more than one span.

    `by_shots`: spans are shots; else the file counts as one shot. A shot longer than `max_s` becomes several spans: of
    `max_s` each while its end is not known, then of equal length, so that none is very short.
    """

    def __init__(self, start: float, max_s: float, fps: float, longest_side: int, *, by_shots: bool) -> None:
        self.max_s, self.fps, self.longest_side, self.by_shots = max_s, fps, longest_side, by_shots
        self._start = self._end = start
        self._audio_start = start
        self._frames: list[tuple[float, Tensor]] = []
        self._small: list[tuple[float, Tensor]] = []  # in which cuts are searched
        self._before: tuple[float, Tensor] | None = None  # the last frame of the spans before
        self._audio: list[Tensor] = []
        self._finder: CutFinder | None = None
        self._lag_s = 0.0

    def add(self, window: FileWindow) -> Iterator[CaptionSpan]:
        """Add a window; yields the spans that are complete."""
        own = window.own_frames
        if own.frames is not None:
            small = smaller(own.frames, self.longest_side)
            self._frames += zip(own.times.tolist(), small, strict=True)
            shown = self._frames[-1][0] + 1 / self.fps
            self._end = max(self._end, shown if window.duration is None else min(shown, window.duration))
        self._add_audio(window)
        if self.by_shots and window.beside:
            self._find_cuts(window)
        if not window.is_last:
            self._end = max(self._end, window.own_end)
            yield from self._cut(self._end - self._lag_s)

    def finish(self) -> Iterator[CaptionSpan]:
        """End the file; yields the remaining spans."""
        if self._finder is not None:
            self._finder.finish()
        yield from self._cut(self._end - _MIN_S)
        if self._end - self._start > _EDGE_S:
            yield from self._even(self._end)

    @property
    def has_shots(self) -> bool:
        """Whether there were frames to find cuts in."""
        return self._finder is not None

    def _add_audio(self, window: FileWindow) -> None:
        sound = window.own_waveform
        if sound is None:
            return
        missing = round((window.start - self._audio_start) * RATE) - sum(map(len, self._audio))
        self._audio += [*([torch.zeros(missing)] if missing > 0 else []), sound.float().cpu()]
        self._end = max(self._end, window.start + len(sound) / RATE)

    def _find_cuts(self, window: FileWindow) -> None:
        frames = window.own(window.beside[0])
        if frames.frames is not None and len(frames.frames):
            if self._finder is None:
                self._finder = CutFinder(window.beside_fps[0])
                self._lag_s = _LAG_S + _LAG_FRAMES / window.beside_fps[0]
            self._finder.add(frames.frames, frames.times.tolist())
            self._small += zip(frames.times.tolist(), frames.frames, strict=True)

    def _cut(self, known: float) -> Iterator[CaptionSpan]:
        """The spans that are complete once all cuts before `known` s are found."""
        while True:
            cuts = self._finder.cuts if self._finder is not None else []
            cut = next((each for each in cuts if self._start + _EDGE_S < each <= known), None)
            if cut is not None:
                yield from self._even(cut)
            elif known - self._start >= 2 * self.max_s:
                yield self._span(self._start + self.max_s)
            else:
                return

    def _even(self, end: float) -> Iterator[CaptionSpan]:
        """The rest of a shot in as few spans of equal length as possible, at most a tenth longer than `max_s`."""
        start, count = self._start, max(1, math.ceil((end - self._start) / self.max_s - 0.1))
        for k in range(1, count):
            yield self._span(start + (end - start) * k / count)
        yield self._span(end)

    def _span(self, until: float) -> CaptionSpan:
        """The span up to `until` s, which is then dropped from the buffers."""
        frames = [each for each in self._frames if each[0] < until - _EDGE_S]
        audio = torch.cat(self._audio) if self._audio else torch.zeros(0)
        at = max(0, round((until - self._audio_start) * RATE))
        own, rest = audio[:at], audio[at:]
        is_audible = len(own) >= _MIN_S * RATE and bool(own.any())
        shown = torch.stack([frame for _, frame in frames]) if frames else self._between(until)
        span = CaptionSpan(self._start, until, shown, own if is_audible else None)
        self._before = frames[-1] if frames else self._before
        self._frames = self._frames[len(frames) :]
        self._small = [each for each in self._small if each[0] >= until - _EDGE_S]
        self._audio, self._audio_start, self._start = [rest], until, until
        return span

    def _between(self, until: float) -> Tensor | None:
        """The frame of a span that ends before its first frame is due: a small one of its own, or the frame before."""
        own = [frame for time, frame in self._small if self._start - _EDGE_S <= time < until - _EDGE_S]
        if own:
            return own[len(own) // 2][None]
        still = self._before is not None and self._start < self._before[0] + 1 / self.fps
        return self._before[1][None] if self._before is not None and still and not self.by_shots else None


def smaller(frames: UInt8[Tensor, "T 3 H W"], longest: int) -> UInt8[Tensor, "T 3 h w"]:
    """Scale frames down so that no side is longer than `longest` pixels; 0 leaves them unchanged."""
    height, width = frames.shape[-2:]
    if not longest or max(height, width) <= longest:
        return frames
    scale = longest / max(height, width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    small = torch.nn.functional.interpolate(frames.float(), sides, mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)
