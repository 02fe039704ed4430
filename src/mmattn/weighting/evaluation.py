"""One evaluation: the scores of all clips from each subset of modalities, and a record of them (evaluation.json).

The encoders run once a batch; the fusion runs on the four subsets of modalities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import MmattnError
from mmattn.metrics.bootstrap import resamples
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Modality
from mmattn.weighting.captions import CaptionEvaluation
from mmattn.weighting.causal import SUBSETS, Subset, permuted_scores, scores_on, subset_fusions
from mmattn.weighting.clip_scores import ClipScores
from mmattn.weighting.descriptive import MassMeter, mass_by_clip
from mmattn.weighting.evaluation_record import add_intervals, clip_records, tag_record, without_nan

Key = TypeVar("Key")
STATS = frozenset({"mass", "entropy", "mean_time"})


@dataclass(frozen=True)
class _Evaluated:
    """One clip: `targets` and scores (K,), `mass` (H, 2) of mass_by_clip."""

    targets: Tensor
    scores: dict[Subset, Tensor]
    permuted: dict[Modality, Tensor]
    mass: Tensor | None


class Evaluation:
    """`update` by batches, `merge` those of other processes, read `result`. Clips that are not real are left out."""

    def __init__(self, vocabulary: TagVocabulary, permutations: bool = False) -> None:
        """`permutations`: also measure permutation scores, for two more runs of the fusion a batch."""
        self.vocabulary = vocabulary
        self.permutations = permutations
        self.mass = MassMeter()
        self.captions = CaptionEvaluation()
        self._clips: dict[str, _Evaluated] = {}

    def update(self, model: AVModel, batch: Batch) -> Fused:
        """Evaluate one batch (no gradient). Returns its fusion of both modalities."""
        with torch.no_grad():
            video, audio = model.encode(batch)
            fused = model.fuse(video, audio, STATS)
            fusions = subset_fusions(model, video, audio, fused)
            scores = scores_on(model, fusions)
            if model.captions:
                self.captions.update(model.captions, fusions, batch)
            permuted = permuted_scores(model, video, audio, _generator(batch)) if self.permutations else {}
            self.mass.update(fused.stats)
            self._add(batch, scores, permuted, mass_by_clip(fused.stats))
            return fused

    def _add(
        self, batch: Batch, scores: Mapping[Subset, Tensor], permuted: Mapping[Modality, Tensor], mass: Tensor | None
    ) -> None:
        """Keep the results of the real clips, with one transfer to the CPU."""
        targets = batch.targets["tags"]
        masses = [] if mass is None else [mass.flatten(1).float()]
        parts = [batch.real[:, None], targets, *(scores[s] for s in SUBSETS), *permuted.values(), *masses]
        real, known, *rest = torch.cat(parts, dim=1).cpu().split([part.shape[1] for part in parts], dim=1)
        for i, name in enumerate(batch.ids):
            if real[i]:
                rows = iter(part[i] for part in rest)
                self._clips[name] = _Evaluated(
                    known[i].to(targets.dtype),
                    {subset: next(rows) for subset in SUBSETS},
                    {modality: next(rows) for modality in permuted},
                    None if mass is None else next(rows).reshape(mass.shape[1:]),
                )

    def merge(self, others: Iterable[Evaluation]) -> None:
        """Add the clips of other processes."""
        for other in others:
            self._clips.update(other._clips)
            self.mass.merge(other.mass)
            self.captions.merge([other.captions])

    @classmethod
    def mean(cls, views: Sequence[Evaluation]) -> Evaluation:
        """Of several views of the same clips: the mean of each clip's scores over those that could be read.

        Captions are those of the first view.
        """
        whole = cls(views[0].vocabulary, views[0].permutations)
        whole.captions = views[0].captions
        for view in views:
            whole.mass.merge(view.mass)
        for name in {name: None for view in views for name in view._clips}:
            clips = [view._clips[name] for view in views if name in view._clips]
            masses = [clip.mass for clip in clips if clip.mass is not None]
            whole._clips[name] = _Evaluated(
                clips[-1].targets,
                _mean([clip.scores for clip in clips]),
                _mean([clip.permuted for clip in clips]),
                torch.stack(masses).nanmean(dim=0) if len(masses) == len(clips) else None,
            )
        return whole

    def thresholds(self, task: Task) -> dict[str, float]:
        """The thresholds of free tags that `task` calibrates on these clips."""
        if not self._clips:
            return {}
        clips = self.clip_scores()
        return task.thresholds(clips.scores["both"], clips.targets)

    def result(self, resampled: int = 0, thresholds: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Scores, Shapley splits of mean average precision, by tag and family, and attention mass, as plain data.

        `thresholds`: of free tags, for F1 and confusion; 0.5 for others. `resampled`: the number of bootstrap resamples
        of the clips for 95 % intervals of every split; 0: none. Raises MmattnError if there was no real clip.
        """
        if not self._clips:
            raise MmattnError("none of the clips could be read, so there is nothing to evaluate")
        clips = self.clip_scores()
        record = tag_record(clips, thresholds or {}) | {"attention": self.mass.result()}
        if captions := self.captions.result(resampled):
            record["captions"] = captions
        if resampled and clips.tags:
            add_intervals(record, clips, resamples(len(clips.ids), resampled))
        return without_nan(record)

    def clips(self, thresholds: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """A record for each clip, sorted by id, see clip_records. `thresholds`: as in `result`."""
        return without_nan(clip_records(self.clip_scores(), self.captions.clips(), thresholds or {}))

    def clip_scores(self) -> ClipScores:
        """The scores of each clip for each tag, sorted by id."""
        ids = sorted(self._clips)
        clips = [self._clips[name] for name in ids]
        masses = [clip.mass for clip in clips if clip.mass is not None]
        permuted = list(clips[0].permuted) if clips else []
        return ClipScores(
            ids=tuple(ids),
            tags=tuple(self.vocabulary.names),
            families=dict(self.vocabulary.families),
            groups={name: tuple(tags) for name, tags in self.vocabulary.groups().items()},
            targets=torch.stack([clip.targets for clip in clips]),
            scores={subset: torch.stack([clip.scores[subset] for clip in clips]) for subset in SUBSETS},
            permuted={modality: torch.stack([clip.permuted[modality] for clip in clips]) for modality in permuted},
            attention=torch.stack(masses) if len(masses) == len(clips) else None,
        )


def _generator(batch: Batch) -> torch.Generator:
    """Seeded by the clips of the batch, so that evaluating twice gives the same permutations."""
    digest = hashlib.sha256("\n".join(batch.ids).encode("utf-8", "surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _mean(views: Sequence[dict[Key, Tensor]]) -> dict[Key, Tensor]:
    return {key: torch.stack([view[key] for view in views]).mean(dim=0) for key in views[0]}
