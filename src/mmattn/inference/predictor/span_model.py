"""Runs a trained model on spans: scores on each subset of the modalities, attention mass, and a caption."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmattn.data.load.dataset import stack_samples
from mmattn.data.prepare.clips import ClipSpec, Sample
from mmattn.inference.predictor.speed import Speed
from mmattn.model import AVModel
from mmattn.tasks.captioning.interface import Captioner
from mmattn.types import Clip
from mmattn.weighting.captions import WeighedCaption, captions_with_weights
from mmattn.weighting.causal import SUBSETS, Subset, scores_on, subset_fusions
from mmattn.weighting.descriptive import MassMeter


@dataclass(frozen=True)
class SpanOutput:
    """The model's output for a span or one view of it. `scores`: (K,) for each subset of the modalities."""

    scores: dict[Subset, Tensor]
    mass: MassMeter
    caption: WeighedCaption | None


@dataclass
class SpanModel:
    """A model and how it is run."""

    model: AVModel
    clip: ClipSpec
    device: str
    speed: Speed
    batch_size: int

    def outputs(self, spans: Iterable[tuple[str, list[Sample]]]) -> Iterator[SpanOutput]:
        """One output for each span, given as its name and its views: the mean over the views.

        The caption is that of the first view.
        """
        spans = list(spans)
        first_views = self._run([(name, first) for name, (first, *_) in spans], self.model.captions)
        other_views = self._run([(name, view) for name, (_, *views) in spans for view in views], None)
        return (_mean([next(first_views), *itertools.islice(other_views, len(views) - 1)]) for _, views in spans)

    def run_noise(self, spans: int) -> None:
        """Run the model on a batch of noise, to compile it or to measure its speed."""
        clip, generator = self.clip, torch.Generator().manual_seed(0)
        size = (clip.frame_count, 3, clip.height, clip.width)
        frames = torch.randint(0, 256, size, generator=generator).to(torch.uint8)
        waveform = 0.1 * torch.randn(clip.samples, generator=generator)
        times = torch.tensor(clip.times(0.0, clip.seconds), dtype=torch.float64)
        sample = clip.prepare(Clip(frames, times, waveform, clip.sample_rate, 0.0, "", (0.0, clip.seconds)))
        for _ in self._batch([("", sample)] * spans, self.model.captions):
            pass

    def _run(self, samples: list[tuple[str, Sample]], captioner: Captioner | None) -> Iterator[SpanOutput]:
        for first in range(0, len(samples), self.batch_size):
            yield from self._batch(samples[first : first + self.batch_size], captioner)

    def _batch(self, samples: list[tuple[str, Sample]], captioner: Captioner | None) -> Iterator[SpanOutput]:
        names = [name for name, _ in samples]
        batch = stack_samples([sample for _, sample in samples], names, self.clip).to(self.device)
        with torch.inference_mode(), self.speed.running(self.device):
            video, audio = self.model.encode(batch)
            fused = self.model.fuse(video, audio, frozenset({"mass"}))
            fusions = subset_fusions(self.model, video, audio, fused)
            scores = scores_on(self.model, fusions)
            captions = captions_with_weights(captioner, fusions, ids=names) if captioner else [None] * len(samples)
        for i in range(len(samples)):
            meter = MassMeter()
            meter.update(layer.one(i) for layer in fused.stats)
            yield SpanOutput({subset: scores[subset][i].float().cpu() for subset in SUBSETS}, meter, captions[i])


def stack_scores(outputs: Iterable[SpanOutput]) -> dict[Subset, Tensor]:
    """(S, K) for each subset of the modalities."""
    outputs = list(outputs)
    return {subset: torch.stack([one.scores[subset] for one in outputs]) for subset in SUBSETS}


def _mean(views: list[SpanOutput]) -> SpanOutput:
    if len(views) == 1:
        return views[0]
    mass = MassMeter()
    for view in views:
        mass.merge(view.mass)
    scores: dict[Subset, Tensor] = {subset: rows.mean(dim=0) for subset, rows in stack_scores(views).items()}
    return SpanOutput(scores, mass, views[0].caption)
