"""Runs a trained model beside the annotators, on the same decode, in spans of its trained length.

Spans do not overlap, so the results are those of `predict run=... span_step_s=` with the length of its clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.checkpoint import load_model
from mmattn.inference.annotators.base.interface import Annotation, Annotator, FileWindow, Findings, Setting
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.predictor.sliding import Sliding
from mmattn.inference.predictor.timeline import Timeline
from mmattn.media.read.windows.views import FrameView
from mmattn.types import Clip

MIN_REST_S = 0.1  # a shorter rest gets no span of its own, as in media's Windows
NAME = "run"


class Trained(Annotator):
    """The model of a run directory, or its model.safetensors, on the media as annotators read them.

    `attention`, `decoding`: see load_model. `setting.threshold` None: each tag's calibrated one.
    """

    def __init__(
        self,
        setting: Setting,
        run: str,
        name: str = NAME,
        attention: dict[str, Any] | None = None,
        decoding: dict[str, Any] | None = None,
        batch_size: int = 16,
    ) -> None:
        """Raises UsageError if `run` is no run."""
        checkpoint = load_model(Path(run), attention, decoding)
        clip = checkpoint.clip
        seconds = clip.frame_count / clip.fps if clip.video else clip.seconds
        self.name = name
        self.version = Path(run).parent.name if Path(run).is_file() else Path(run).name
        self.predictor = Predictor(
            checkpoint, device=setting.device, threshold=setting.threshold, span_step_s=seconds, batch_size=batch_size
        )
        assert isinstance(self.predictor.over_time, Sliding)
        self.spans = self.predictor.over_time
        if clip.video and "video" in setting.modalities:
            shown: dict[str, Any] = {"size": (clip.height, clip.width), "fit": clip.fit, "resample": clip.resample}
            shown["resize"] = clip.resize
            self.view = FrameView(1.0, **shown)  # for a still, which ends before the first middle of a frame
            self.beside = (FrameView(clip.fps, **shown, middles=True),)
        self.needs_audio = clip.audio and "audio" in setting.modalities
        self.audio_rate = clip.sample_rate

    def networks(self) -> list[nn.Module]:
        return list(self.predictor.model.children())

    def begin(self, start: float) -> Annotation:
        return _RunningModel(self, start)


class _RunningModel(Annotation):
    """Buffers the media since the last span, and the spans that wait for a batch."""

    def __init__(self, trained: Trained, start: float) -> None:
        predictor = trained.predictor
        self._trained, self._begin, self._at = trained, start, start
        self._timeline = Timeline(predictor.vocabulary, predictor.thresholds)
        self._frames, self._times = torch.zeros(0), torch.zeros(0, dtype=torch.float64)
        self._still: Tensor | None = None
        self._wave: Tensor | None = None
        self._wave_start = start  # of `_wave`, s
        self._duration: float | None = None
        self._waiting: list[Clip] = []

    def update(self, window: FileWindow) -> None:
        self._duration = window.duration
        self._add_frames(window)
        self._add_audio(window)
        reached = window.own_end
        if window.is_last:
            reached = self._end()
        length = self._trained.spans.window_s
        while self._at + length <= reached + 1e-6 or (window.is_last and self._is_rest(reached)):
            self._cut(self._at + length)

    def findings(self) -> Findings:
        if self._waiting:
            self._run(is_last=True)
        tags, _ = self._timeline.tags()
        name = {"from": self._trained.name}
        parts = {"tags": [{**tag, **name} for tag in tags]}
        if self._trained.predictor.model.captions:
            parts["captions"] = [{**caption, **name} for caption in self._timeline.captions.records()]
        return Findings(parts, tuple(self._timeline.used), self._timeline.end)

    def _add_frames(self, window: FileWindow) -> None:
        if self._trained.view is None:
            return
        if window.is_first and window.frames.frames is not None and len(window.frames.frames):
            self._still = window.frames.frames[:1]
        own = window.own(window.beside[0])
        if own.frames is not None and len(own.frames):
            self._frames = torch.cat([self._frames, own.frames]) if len(self._times) else own.frames
            self._times = torch.cat([self._times, own.times])

    def _add_audio(self, window: FileWindow) -> None:
        own = window.own_waveform
        if own is None:
            return
        if self._wave is None:
            self._wave, self._wave_start = own, window.start
            return
        gap = round((window.start - self._wave_start) * self._trained.audio_rate) - len(self._wave)
        self._wave = torch.cat([self._wave, torch.zeros(max(0, gap)), own])

    def _end(self) -> float:
        """Where the file ends according to the media so far, s."""
        video_end = float(self._times[-1]) + 0.5 / self._trained.predictor.clip.fps if len(self._times) else self._at
        audio_end = self._at if self._wave is None else self._wave_start + len(self._wave) / self._trained.audio_rate
        reached = max(video_end, audio_end)
        return reached if self._duration is None else min(max(reached, self._at), self._duration)

    def _is_rest(self, reached: float) -> bool:
        """Whether the end of a file from `_at` on needs a span of its own."""
        is_first = self._at == self._begin
        return reached - self._at > MIN_REST_S or (is_first and (self._still is not None or reached > self._at))

    def _cut(self, end: float) -> None:
        """Put the buffered media up to `end` s into a span."""
        own = self._times < end - 1e-9
        frames, times = (self._frames[own], self._times[own]) if own.any() else (None, self._times[:0])
        if frames is None and self._at == self._begin and self._still is not None:
            frames, times = self._still, torch.tensor([self._begin], dtype=torch.float64)
        rate, wave = self._trained.audio_rate, None
        if self._wave is not None:
            count = max(0, round((end - self._wave_start) * rate))
            wave, self._wave = self._wave[:count], self._wave[count:]
        span = (self._at, end)
        clip = Clip(frames, times, wave, rate, self._wave_start, "", span, duration=self._duration)
        self._frames, self._times, self._at, self._wave_start = self._frames[~own], self._times[~own], end, end
        if len(self._waiting) == self._trained.predictor.batch_size:
            self._run(is_last=False)
        self._waiting.append(clip)

    def _run(self, is_last: bool) -> None:
        trained, clips = self._trained, self._waiting
        trained.predictor.add(self._timeline, clips, trained.spans.bounds(clips, self._begin, is_last), trained.name)
        self._waiting = []
