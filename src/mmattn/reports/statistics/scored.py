"""The per-clip scores of each run, and the draws of clips that all rows share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmattn.reports.collect.groups import Group
from mmattn.reports.statistics.draws import Draws, draw
from mmattn.reports.statistics.measures import WEIGHTINGS, Measures
from mmattn.reports.statistics.uncertainty import Values
from mmattn.weighting.clip_scores import ClipScores, load_clip_scores, scores_file

MOST, LEAST = 1000, 200  # draws of clips
_WORK = 4e9  # at most so many draws x clips x tags x runs


class Scored:
    """`missing`: runs without per-clip scores; `clips`: the number that all other runs share."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Read the scores of all rows. Raises UsageError for a damaged file."""
        self.groups, self.split = groups, groups[0].mean.scores.split
        files = {run.path: scores_file(run.path, self.split) for group in groups for run in group.runs}
        self.missing = tuple(path for path, file in files.items() if not file.is_file())
        whole = [run.path for group in groups if self._complete(group) for run in group.runs]
        found = {path: load_clip_scores(files[path]) for path in whole}
        shared = _shared(list(found.values()))
        self.clips = len(shared)
        self.left_out = len({name for scores in found.values() for name in scores.ids}) - self.clips
        self.draws: Draws | None = None
        self._measures: dict[Path, Measures] = {}
        if shared:
            found = {path: scores.of(shared) for path, scores in found.items()}
            self.draws = draw(*_plan(list(found.values())))
            self._measures = {path: Measures(own, self.draws, path, self.split) for path, own in found.items()}

    def _complete(self, group: Group) -> bool:
        return not any(run.path in self.missing for run in group.runs)

    def values(self, metric: str) -> dict[int, Values]:
        """By row, the scores of its seeds on each draw; without rows in which a seed lacks the metric.

        Raises UsageError for a metric that the runs do not have.
        """
        found = {}
        for place, group in enumerate(self.groups):
            measures = [self._measures.get(run.path) for run in group.runs]
            known = [one for one in measures if one is not None and (metric not in WEIGHTINGS or one.has(metric))]
            if len(known) == len(group.runs):
                values = torch.stack([one(metric) for one in known], dim=1).double().numpy()
                found |= {} if np.isnan(values[0]).any() else {place: values}
        return found

    def has_family(self, family: str) -> bool:
        """Whether every run that is compared has tags of a family."""
        return all(one.has_family(family) for one in self._measures.values())

    def weightings(self) -> list[str]:
        """The weightings that any run has."""
        return [metric for metric in WEIGHTINGS if any(one.has(metric) for one in self._measures.values())]


def _shared(scores: Sequence[ClipScores]) -> list[str]:
    """The clips that all runs scored, without those that are not the same: their targets differ."""
    if not scores:
        return []
    shared = sorted(set.intersection(*(set(one.ids) for one in scores)))
    first: dict[tuple[str, ...], torch.Tensor] = {}
    same = torch.ones(len(shared), dtype=torch.bool)
    for targets, tags in ((one.of(shared).targets, one.tags) for one in scores):
        known = first.setdefault(tags, targets)
        same &= (known == targets).all(dim=1)
    return [name for name, is_same in zip(shared, same.tolist(), strict=True) if is_same]


def _plan(scores: Sequence[ClipScores]) -> tuple[Sequence[str], int]:
    """The video of each clip (the clip itself where none is recorded), and the number of draws."""
    videos = next((one.videos for one in scores if one.videos), scores[0].ids)
    size = len(videos) * max(1, *(len(one.tags) for one in scores)) * len(scores)
    return videos, int(min(MOST, max(LEAST, _WORK / size)))
