"""Collects the scores of a file's windows, and turns them into tags with segments and captions.

Memory does not grow with the duration of the file, only with what is found.

Shape legend: S windows, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import Sample
from mmattn.inference.records.build import Record
from mmattn.inference.records.caption_timeline import CaptionTimeline
from mmattn.inference.records.measures import tag_records
from mmattn.inference.records.segments import Segments
from mmattn.metrics.tags import decisions
from mmattn.types import MODALITIES, Modality
from mmattn.weighting.captions import WeighedCaption
from mmattn.weighting.causal import SUBSETS, Subset
from mmattn.weighting.descriptive import MassMeter


class Timeline:
    """What the model finds in one file, window by window. `thresholds` (K,): see thresholds_of."""

    def __init__(self, vocabulary: TagVocabulary, thresholds: Float[Tensor, " K"]) -> None:
        self.vocabulary = vocabulary
        self.thresholds = thresholds
        self.mass = MassMeter()
        self.captions = CaptionTimeline()
        self.end = 0.0
        self._used: set[Modality] = set()
        self._segments = Segments(gap_s=1e-6)
        self._best: dict[Subset, Tensor] = {s: torch.full((len(thresholds),), -1.0) for s in SUBSETS}

    def add(
        self,
        scores: Mapping[Subset, Float[Tensor, "S K"]],
        samples: Sequence[Sample],
        captions: Sequence[WeighedCaption | None],
        bounds: Sequence[float],
    ) -> None:
        """Add the next windows; window i covers bounds[i] to bounds[i + 1] s. An empty window has no tag or caption."""
        has_video = torch.stack([sample.frame_keep.any() for sample in samples])
        has_audio = torch.stack([sample.spectrogram_keep.any() for sample in samples])
        self._used |= {name for name, has in zip(MODALITIES, (has_video, has_audio), strict=True) if has.any()}
        holds_any = has_video | has_audio
        present = decisions(scores["both"], self.thresholds, self.vocabulary.groups()) & holds_any[:, None]
        self._segments.add(scores["both"], present, bounds)
        self._keep_best(scores, present)
        for i, caption in enumerate(captions):
            self.captions.add(bounds[i], bounds[i + 1], caption if holds_any[i] else None)
        self.end = bounds[-1]

    def _keep_best(self, scores: Mapping[Subset, Tensor], present: Bool[Tensor, "S K"]) -> None:
        """Keep each tag's scores on all subsets from the window where it is listed with the highest score."""
        value, step = torch.where(present, scores["both"], -1.0).max(dim=0)
        better = value > self._best["both"]
        for subset in SUBSETS:
            here = scores[subset].gather(0, step[None])[0]
            self._best[subset] = torch.where(better, here, self._best[subset])

    def tags(self) -> tuple[list[Record], Record | None]:
        """Each tag that was listed in some window, with its best scores and its segments; and the mean split."""
        found = self._segments.best()
        return tag_records(self.vocabulary.names, self._best, found, found)

    @property
    def used(self) -> list[Modality]:
        """The modalities that the windows had."""
        return [name for name in MODALITIES if name in self._used]
