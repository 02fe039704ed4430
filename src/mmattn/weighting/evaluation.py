"""One evaluation: scores by tag and family, and what they owe to sound and to picture.

Encoders run once a batch; the fusion runs on the four modality subsets. The result is plain data (evaluation.json).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import MmattnError
from mmattn.metrics.bootstrap import interval, resampled_average_precision, resamples
from mmattn.metrics.summary import summary
from mmattn.metrics.tags import answers, average_precision, by_family, mean_defined
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.types import MODALITIES, Batch, Fused, Modality
from mmattn.weighting.captions import CaptionEvaluation
from mmattn.weighting.causal import SUBSETS, Subset, permuted_scores, scores_on, shapley, subset_fusions
from mmattn.weighting.clip_scores import ClipScores
from mmattn.weighting.descriptive import MassMeter, mass_by_clip

Key = TypeVar("Key")
STATS = frozenset({"mass", "entropy", "mean_time"})


class Evaluation:
    """Feed it batches; `merge` those of other processes; read `result`. Clips that are not real stay out of all."""

    def __init__(self, vocabulary: TagVocabulary, permutations: bool = False) -> None:
        """`permutations`: also measure permutation scores, for two more runs of the fusion a batch."""
        self.vocabulary = vocabulary
        self.permutations = permutations
        self.mass = MassMeter()
        self.captions = CaptionEvaluation()
        self._targets: dict[str, Tensor] = {}
        self._scores: dict[str, dict[Subset, Tensor]] = {}
        self._permuted: dict[str, dict[Modality, Tensor]] = {}
        self._mass: dict[str, Tensor] = {}

    def update(self, model: AVModel, batch: Batch) -> Fused:
        """Evaluate one batch (no gradient). Returns its fusion of both modalities."""
        with torch.no_grad():
            video, audio = model.encode(batch)
            fused = model.fuse(video, audio, STATS)
            fusions = subset_fusions(model, video, audio, fused)
            scores = scores_on(model, fusions)
            if model.captions:
                self.captions.update(model.captions, fusions, batch)
            shuffled = permuted_scores(model, video, audio, self._generator(batch)) if self.permutations else None
            self.mass.update(fused.stats)
            permuted = [shuffled[modality] for modality in MODALITIES] if shuffled is not None else []
            targets = batch.targets["tags"]
            mass = mass_by_clip(fused.stats)
            weighed = [mass.flatten(1).float()] if mass is not None else []
            given = [batch.real[:, None], targets, *(scores[s] for s in SUBSETS), *weighed, *permuted]
            real, told, *found = _on_processor(*given)
            for i, name in enumerate(batch.ids):
                if not real[i]:
                    continue
                self._targets[name] = told[i].to(targets.dtype)
                self._scores[name] = {s: values[i] for s, values in zip(SUBSETS, found, strict=False)}
                if mass is not None:
                    self._mass[name] = found[len(SUBSETS)][i].reshape(mass.shape[1:])
                if permuted:
                    of_modalities = zip(MODALITIES, found[-len(MODALITIES) :], strict=True)
                    self._permuted[name] = {modality: values[i] for modality, values in of_modalities}
            return fused

    def merge(self, others: Iterable[Evaluation]) -> None:
        for other in others:
            self._targets.update(other._targets)
            self._scores.update(other._scores)
            self._permuted.update(other._permuted)
            self._mass.update(other._mass)
            self.mass.merge(other.mass)
            self.captions.merge([other.captions])

    @classmethod
    def mean(cls, views: Sequence[Evaluation]) -> Evaluation:
        """Of several views of the same clips: the mean of each clip's scores over those that could be read.

        Captions are those of the first.
        """
        whole = cls(views[0].vocabulary, views[0].permutations)
        whole.captions = views[0].captions
        for view in views:
            whole.mass.merge(view.mass)
            whole._targets.update(view._targets)
        for name in whole._targets:
            seen = [view for view in views if name in view._scores]
            whole._scores[name] = _mean_each([view._scores[name] for view in seen])
            if all(name in view._mass for view in seen):
                whole._mass[name] = torch.stack([view._mass[name] for view in seen]).nanmean(dim=0)
            if whole.permutations:
                whole._permuted[name] = _mean_each([view._permuted[name] for view in seen])
        return whole

    def thresholds(self, task: Task) -> dict[str, float]:
        """From which score on to list each free tag, as `task` was made to choose them from these clips."""
        if not self._targets:
            return {}
        targets, scores = self._stacked(sorted(self._targets))
        return task.thresholds(scores["both"], targets)

    def result(self, resampled: int = 0, thresholds: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Scores, Shapley split of mean average precision, by tag and family, and the attention mass. Plain data.

        `thresholds`: of free tags, for F1 and confusion; 0.5 for others. `resampled`: that often clips
        are drawn anew for 95 % intervals of every split; 0: no intervals. Raises MmattnError when there was no real
        clip.
        """
        if not self._targets:
            raise MmattnError("none of the clips could be read, so nothing can be measured")
        names, families = self.vocabulary.names, self.vocabulary.families
        ids = sorted(self._targets)
        targets, scores = self._stacked(ids)
        per_tag: dict[Subset, dict[str, float]] = {
            s: dict(zip(names, average_precision(scores[s], targets).tolist(), strict=True)) for s in SUBSETS
        }
        per_family: dict[Subset, dict[str, float]] = {s: by_family(per_tag[s], families) for s in SUBSETS}
        mean: dict[Subset, float] = {s: mean_defined(list(per_tag[s].values())) for s in SUBSETS}
        record = {
            "clips": len(ids),
            "metrics": {
                "mAP": mean["both"],
                "mAP_by_family": per_family["both"],
                "ap": per_tag["both"],
                "chance_mAP": mean_defined([float(p) for p in targets.mean(dim=0) if p > 0]),
                **summary(scores["both"], targets, names, self.vocabulary.groups(), thresholds or {}),
            },
            "shapley": _split(mean),
            "shapley_by_family": {f: _split({s: per_family[s][f] for s in SUBSETS}) for f in per_family["both"]},
            "shapley_by_tag": {tag: _split({s: per_tag[s][tag] for s in SUBSETS}) for tag in names},
            "shapley_by_clip": _split({s: float(v.nanmean()) for s, v in _own_scores(scores, targets).items()}),
            "confusion": self._confusion(scores, targets, thresholds or {}),
            "attention": self.mass.result(),
        }
        if self._permuted:
            record["permutation"] = self._permutation(ids, targets, per_tag["both"])
        if captions := self.captions.result(resampled):
            record["captions"] = captions
        if resampled and names:
            self._add_intervals(record, scores, targets, resamples(len(ids), resampled))
        return _no_nan(record)

    def clips(self, thresholds: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
        """A record for each clip: what its own tags score on average on each subset of modalities, the split of that,
        the questions where one modality alone is right and both together are wrong, and its caption. Plain data, sorted
        by id. `thresholds`: from where on a free tag is said, 0.5 for those that are not in it.
        """
        ids, names = sorted(self._targets), self.vocabulary.names
        targets, scores = self._stacked(ids)
        own = _own_scores(scores, targets)
        misled = self._misled(scores, targets, thresholds or {})
        captions = self.captions.clips()
        records = []
        for i, name in enumerate(ids):
            tags = [tag for tag, value in zip(names, targets[i].tolist(), strict=True) if value > 0]
            wrong = {m: [question for question, clips in misled[m].items() if clips[i]] for m in MODALITIES}
            split = _split({s: float(own[s][i]) for s in SUBSETS})
            said = {"captioning": captions[name]} if name in captions else {}
            records.append({"id": name, "tags": tags, **split, "confusion": wrong, **said})
        return _no_nan(records)

    def clip_scores(self) -> ClipScores:
        """What each clip scored for each tag, sorted by id."""
        ids, known = sorted(self._targets), self.vocabulary
        groups = {name: tuple(tags) for name, tags in known.groups().items()}
        permuted: dict[Modality, Tensor] = {}
        if self._permuted:
            permuted |= {m: torch.stack([self._permuted[name][m] for name in ids]) for m in MODALITIES}
        mass = torch.stack([self._mass[name] for name in ids]) if len(self._mass) == len(ids) else None
        return ClipScores(
            tuple(ids),
            tuple(known.names),
            dict(known.families),
            groups,
            *self._stacked(ids),
            permuted=permuted,
            attention=mass,
        )

    def _stacked(self, ids: list[str]) -> tuple[Tensor, dict[Subset, Tensor]]:
        """Targets (N, K), and scores (N, K) on each subset."""
        scores: dict[Subset, Tensor] = {s: torch.stack([self._scores[name][s] for name in ids]) for s in SUBSETS}
        return torch.stack([self._targets[name] for name in ids]), scores

    def _misled(
        self, scores: dict[Subset, Tensor], targets: Tensor, thresholds: Mapping[str, float]
    ) -> dict[Modality, dict[str, Tensor]]:
        """By question, the clips (N,) that one modality alone gets right and both together get wrong."""
        groups, names = self.vocabulary.groups(), self.vocabulary.names
        right = {subset: answers(scores[subset], targets, names, groups, thresholds) for subset in SUBSETS}
        return {
            modality: {
                name: question & right[modality][name][1] & ~correct
                for name, (question, correct) in right["both"].items()
            }
            for modality in MODALITIES
        }

    def _confusion(
        self, scores: dict[Subset, Tensor], targets: Tensor, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        """How often one modality alone is right where both together are wrong: over all answers, and by question."""
        names, groups = self.vocabulary.names, self.vocabulary.groups()
        questions = answers(scores["both"], targets, names, groups, thresholds)
        asked = {name: int(question.sum()) for name, (question, _) in questions.items()}
        record: dict[str, Any] = {}
        for modality, clips in self._misled(scores, targets, thresholds).items():
            misled = {name: int(found.sum()) for name, found in clips.items()}
            by_question = {name: misled[name] / asked[name] if asked[name] else math.nan for name in asked}
            total = sum(asked.values())
            record[modality] = {"all": sum(misled.values()) / total if total else math.nan, "by_question": by_question}
        return record

    def _permutation(self, ids: list[str], targets: Tensor, both: dict[str, float]) -> dict[str, Any]:
        """[V - V(permuted m)] / V with V the mean average precision, and of each tag its own."""
        record: dict[str, Any] = {}
        for modality in MODALITIES:
            scores = torch.stack([self._permuted[name][modality] for name in ids])
            by_tag = dict(zip(both, average_precision(scores, targets).tolist(), strict=True))
            whole, value = mean_defined(list(both.values())), mean_defined(list(by_tag.values()))
            lost = {tag: _lost(both[tag], by_tag[tag]) for tag in both}
            record[modality] = {"value": value, "score": _lost(whole, value), "by_tag": lost}
        return record

    def _add_intervals(
        self, record: dict[str, Any], scores: dict[Subset, Tensor], targets: Tensor, counts: Tensor
    ) -> None:
        """95 % intervals of every split: the same resamples of clips for each subset, so differences are paired."""
        parts = vars(shapley({s: resampled_average_precision(scores[s], targets, counts) for s in SUBSETS}))
        names, families = self.vocabulary.names, self.vocabulary.families

        def mean_over(tags: list[int]) -> dict[str, list[float]]:
            return {part: interval(values[:, tags].nanmean(dim=1)) for part, values in parts.items()}

        record["shapley"]["interval"] = mean_over(list(range(len(names))))
        for family, split in record["shapley_by_family"].items():
            split["interval"] = mean_over([i for i, tag in enumerate(names) if families.get(tag) == family])
        for i, tag in enumerate(names):
            record["shapley_by_tag"][tag]["interval"] = mean_over([i])
        own = vars(shapley(_own_scores(scores, targets)))
        tagged = ~own["video"].isnan()
        drawn = counts[:, tagged].double()
        record["shapley_by_clip"]["interval"] = {
            part: interval(drawn @ values[tagged] / drawn.sum(dim=1)) for part, values in own.items()
        }
        record["resampled"] = len(counts)

    def _generator(self, batch: Batch) -> torch.Generator:
        """A batch's own stream, so that evaluating twice gives the same."""
        digest = hashlib.sha256("\n".join(batch.ids).encode("utf-8", "surrogateescape")).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _on_processor(*parts: Tensor) -> tuple[Tensor, ...]:
    """(B, K) tensors there, in one transfer, in the widest of their types."""
    return torch.cat(parts, dim=1).cpu().split([part.shape[1] for part in parts], dim=1)


def _own_scores(scores: dict[Subset, Tensor], targets: Tensor) -> dict[Subset, Tensor]:
    """The mean score (N,) of each clip's own tags; NaN for a clip without any."""
    truth = (targets > 0).double()
    return {subset: (scores[subset].double() * truth).sum(dim=1) / truth.sum(dim=1) for subset in SUBSETS}


def _mean_each(views: Sequence[dict[Key, Tensor]]) -> dict[Key, Tensor]:
    return {key: torch.stack([view[key] for view in views]).mean(dim=0) for key in views[0]}


def _lost(both: float, permuted: float) -> float:
    return (both - permuted) / both if both else math.nan


def _split(value: dict[Subset, float]) -> dict[str, Any]:
    split = shapley(value)
    return {"value": dict(value), "video": split.video, "audio": split.audio, "synergy": split.synergy}


def _no_nan(node: Any) -> Any:
    """JSON has neither NaN nor infinity; null says undefined."""
    if isinstance(node, dict):
        return {key: _no_nan(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_no_nan(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
