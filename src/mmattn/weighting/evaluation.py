"""One evaluation: scores by tag and family, and what they owe to sound and to picture.

Encoders run once a batch; the fusion runs on the four modality subsets. The result is plain data (evaluation.json).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mmattn.data.labels import TagVocabulary
from mmattn.errors import MmattnError
from mmattn.metrics.tags import average_precision, by_family, group_accuracy, mean_defined
from mmattn.model import AVModel
from mmattn.types import Batch
from mmattn.weighting.causal import SUBSETS, Subset, shapley, subset_scores
from mmattn.weighting.descriptive import MassMeter

MASS = frozenset({"mass"})


class Evaluation:
    """Feed it batches; `merge` those of other processes; read `result`. Clips that are not real stay out of all."""

    def __init__(self, vocabulary: TagVocabulary) -> None:
        self.vocabulary = vocabulary
        self.mass = MassMeter()
        self._targets: dict[str, Tensor] = {}
        self._scores: dict[str, dict[Subset, Tensor]] = {}

    def update(self, model: AVModel, batch: Batch) -> Tensor:
        """Evaluate one batch (no gradient). Returns its logits with both modalities."""
        with torch.no_grad():
            video, audio = model.encode(batch)
            fused = model.fuse(video, audio, MASS)
            scores = subset_scores(model, video, audio, fused)
            self.mass.update(fused.stats)
            real = batch.real.tolist()
            for i, name in enumerate(batch.ids):
                if not real[i]:
                    continue
                self._targets[name] = batch.targets["tags"][i].cpu()
                self._scores[name] = {subset: scores[subset][i].cpu() for subset in SUBSETS}
            return model.task(fused)

    def merge(self, others: Iterable[Evaluation]) -> None:
        for other in others:
            self._targets.update(other._targets)
            self._scores.update(other._scores)
            self.mass.merge(other.mass)

    def result(self) -> dict[str, Any]:
        """Scores, Shapley split of mean average precision, by tag and family, and the attention mass. Plain data.

        Raises MmattnError when there was no real clip.
        """
        if not self._targets:
            raise MmattnError("none of the clips could be read, so nothing can be measured")
        names, families = self.vocabulary.names, self.vocabulary.families
        ids = sorted(self._targets)
        targets = torch.stack([self._targets[name] for name in ids])
        scores = {subset: torch.stack([self._scores[name][subset] for name in ids]) for subset in SUBSETS}
        per_tag: dict[Subset, dict[str, float]] = {
            s: dict(zip(names, average_precision(scores[s], targets).tolist(), strict=True)) for s in SUBSETS
        }
        per_family: dict[Subset, dict[str, float]] = {s: by_family(per_tag[s], families) for s in SUBSETS}
        mean: dict[Subset, float] = {s: mean_defined(list(per_tag[s].values())) for s in SUBSETS}
        accuracy = group_accuracy(scores["both"], targets, self.vocabulary.groups())
        record = {
            "clips": len(ids),
            "metrics": {
                "mAP": mean["both"],
                "mAP_by_family": per_family["both"],
                "ap": per_tag["both"],
                "accuracy": accuracy,
                "mean_accuracy": mean_defined(list(accuracy.values())),
                "chance_mAP": mean_defined([float(p) for p in targets.mean(dim=0) if p > 0]),
            },
            "shapley": _split(mean),
            "shapley_by_family": {f: _split({s: per_family[s][f] for s in SUBSETS}) for f in per_family["both"]},
            "shapley_by_tag": {tag: _split({s: per_tag[s][tag] for s in SUBSETS}) for tag in names},
            "attention": self.mass.result(),
        }
        return _no_nan(record)


def _split(value: dict[Subset, float]) -> dict[str, Any]:
    split = shapley(value)
    return {"value": dict(value), "video": split.video, "audio": split.audio, "synergy": split.synergy}


def _no_nan(node: Any) -> Any:
    """JSON has no NaN; null says undefined."""
    if isinstance(node, dict):
        return {key: _no_nan(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_no_nan(value) for value in node]
    return None if isinstance(node, float) and math.isnan(node) else node
