"""The metrics of one run on each draw of clips: scores, and weightings of the modalities.

Shape legend: R draws of clips, N clips, K tags, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.metrics.bootstrap import resampled_average_precision
from mmattn.metrics.tags import answers
from mmattn.reports.collect.clips import clips_file, read_clips
from mmattn.reports.statistics.draws import Draws
from mmattn.types import MODALITIES
from mmattn.weighting.causal import SUBSETS, shapley
from mmattn.weighting.clip_scores import ClipScores

PARTS = ("video", "audio", "synergy", "balance")  # balance: audio - video
WEIGHTINGS = (*(f"shapley/{part}" for part in PARTS), *(f"permutation/{name}" for name in MODALITIES), "attention")


class Measures:
    """Call it with the name of a metric. Average precisions, which several metrics need, are computed once.

    Metrics: mAP, shapley/PART, permutation/MODALITY, each also for a family or tag, as in shapley/audio/FAMILY;
    attention (the mean over heads of the log-ratio of attention on audio over its prior); accuracy; caption metrics.
    """

    def __init__(self, clips: ClipScores, draws: Draws, run: Path, split: str) -> None:
        self._clips, self._counts, self._run = clips, draws.counts, run
        self._captions = clips_file(run, split)
        self._known: dict[str, Float[Tensor, "R K"]] = {}

    def __call__(self, metric: str) -> Float[Tensor, " R"]:
        """NaN where the metric is undefined on a draw. Raises UsageError for a metric that the run lacks."""
        kind, _, rest = metric.partition("/")
        measures: dict[str, Callable[[str, str], Tensor]] = {
            "mAP": self._precision,
            "shapley": self._shapley,
            "permutation": self._permutation,
            "attention": self._attention,
            "accuracy": self._accuracy,
        }
        return measures.get(kind, self._caption)(metric, rest)

    def has(self, metric: str) -> bool:
        """Whether the run has a weighting."""
        if metric == "attention":
            return self._clips.attention is not None
        return bool(self._clips.tags) and (not metric.startswith("permutation/") or bool(self._clips.permuted))

    def has_family(self, family: str) -> bool:
        """Whether the run has tags of a family."""
        return any(self._clips.families.get(tag) == family for tag in self._clips.tags)

    def _average(self, name: str) -> Float[Tensor, "R K"]:
        """Average precision by tag, with a subset of the modalities or with one modality permuted."""
        if name not in self._known:
            scores = {**self._clips.scores, **{f"permuted_{m}": v for m, v in self._clips.permuted.items()}}[name]
            self._known[name] = resampled_average_precision(scores, self._clips.targets, self._counts)
        return self._known[name]

    def _tags(self, metric: str, name: str) -> list[int]:
        """The places of a family's tags, or of one tag; all for ""."""
        tags, families = self._clips.tags, self._clips.families
        chosen = [i for i, tag in enumerate(tags) if not name or families.get(tag) == name]
        chosen = chosen or [i for i, tag in enumerate(tags) if tag == name]
        if not chosen:
            own = ", ".join(f"{metric.removesuffix(f'/{name}')}/{family}" for family in sorted(set(families.values())))
            raise UsageError(
                f"metric={metric}: {self._run} has no such tags; choose from {own or 'mAP (it has no families)'}"
            )
        return chosen

    def _precision(self, metric: str, rest: str) -> Tensor:
        return self._average("both")[:, self._tags(metric, rest)].nanmean(dim=1)

    def _shapley(self, metric: str, rest: str) -> Tensor:
        part, _, name = rest.partition("/")
        if part not in PARTS:
            raise UsageError(f"metric={metric}: expected shapley/ and one of {', '.join(PARTS)}")
        tags = self._tags(metric, name)
        split = shapley({subset: self._average(subset)[:, tags].nanmean(dim=1) for subset in SUBSETS})
        return split.audio - split.video if part == "balance" else getattr(split, part)

    def _permutation(self, metric: str, rest: str) -> Tensor:
        modality, _, name = rest.partition("/")
        if modality not in self._clips.permuted:
            raise UsageError(
                f"metric={metric}: {self._run} did not keep it for each clip; evaluate it again, and use "
                "permutation/video or permutation/audio"
            )
        tags = self._tags(metric, name)
        whole, lost = (self._average(each)[:, tags].nanmean(dim=1) for each in ("both", f"permuted_{modality}"))
        return (whole - lost) / whole

    def _attention(self, metric: str, rest: str) -> Tensor:
        if self._clips.attention is None:
            raise UsageError(f"metric={metric}: {self._run} did not keep it for each clip; evaluate it again")
        known = ~self._clips.attention.isnan().any(dim=2)  # (N, H)
        weights = self._counts.double()
        mass, prior = (weights @ self._clips.attention[..., i].double().where(known, 0.0) for i in (0, 1))  # (R, H)
        return (mass.clamp(min=1e-12) / prior).log().nanmean(dim=1)

    def _accuracy(self, metric: str, rest: str) -> Tensor:
        clips, weights = self._clips, self._counts.double()
        if not clips.groups or rest:
            raise UsageError(f"metric={metric}: {self._run} has no exclusive group of tags; use metric=mAP")
        questions = answers(clips.scores["both"], clips.targets, clips.tags, clips.groups, {})
        parts = [
            weights @ (has & right).double() / (weights @ has.double())
            for has, right in (questions[name] for name in clips.groups)
        ]
        return torch.stack(parts).nanmean(dim=0)

    def _caption(self, metric: str, rest: str) -> Tensor:
        values = _caption_values(self._captions, metric)
        own = torch.tensor([values.get(name, math.nan) for name in self._clips.ids], dtype=torch.float64)
        known, weights = ~own.isnan(), self._counts.double()
        return weights[:, known] @ own[known] / weights[:, known].sum(dim=1)


def _caption_values(path: Path, metric: str) -> dict[str, float]:
    """A caption metric of each clip, by id."""
    captioned = {id_: one["captioning"]["metrics"] for id_, one in read_clips(path).items() if "captioning" in one}
    if captioned and all(metric in values for values in captioned.values()):
        return {id_: float(values[metric]) for id_, values in captioned.items()}
    known = ", ".join(["mAP", "mAP/FAMILY", "accuracy", *WEIGHTINGS, *sorted(next(iter(captioned.values()), {}))])
    raise UsageError(f"metric={metric}: expected one of {known}")
