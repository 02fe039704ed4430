"""What a report knows of a run, as plain frozen records. Nothing here needs torch.

Whatever is undefined or missing is None, never NaN: a page can then say "undefined" instead of printing a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Number = float | None
Curves = dict[str, tuple[tuple[float, float], ...]]  # metric -> (epoch, value)


@dataclass(frozen=True)
class Split:
    """A score on each modality subset (none, video, audio, both) and its exact Shapley split."""

    value: dict[str, Number]
    video: Number
    audio: Number
    synergy: Number
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)  # of each part, 95 %

    @property
    def gain(self) -> Number:
        """What both modalities together add to neither: video + audio."""
        both, none = self.value.get("both"), self.value.get("none")
        return None if both is None or none is None else both - none

    def above(self, part: str, edge: float = 0.0) -> bool:
        """Whether the whole interval of a part is above `edge`."""
        return part in self.interval and self.interval[part][0] > edge

    def below(self, part: str, edge: float = 0.0) -> bool:
        """Whether the whole interval of a part is below `edge`."""
        return part in self.interval and self.interval[part][1] < edge


@dataclass(frozen=True)
class Head:
    """The mean attention mass of one head on audio, beside what uniform attention would give."""

    layer: str
    stream: str
    head: int
    mass: float
    prior: float
    log_ratio: Number


@dataclass(frozen=True)
class Scores:
    """One evaluation of one run."""

    split: str
    epoch: int | None
    clips: int
    mean: Number
    chance: Number
    mean_accuracy: Number
    by_family: dict[str, Number]
    by_tag: dict[str, Number]
    accuracy: dict[str, Number]
    shapley: Split
    shapley_by_family: dict[str, Split]
    shapley_by_tag: dict[str, Split]
    heads: tuple[Head, ...]
    permutation: dict[str, Number] = field(default_factory=dict)  # modality -> share of the score lost by permuting it
    captions: dict[str, Number] = field(default_factory=dict)  # metric of the captions -> value
    gradient_share: dict[str, Number] = field(default_factory=dict)  # modality -> its encoder's share in training


@dataclass(frozen=True)
class RunRecord:
    """All that a report shows of one run directory."""

    path: Path
    name: str  # unique among the runs of one report
    fusion: str  # "cross", "late", ...
    attention: str | None  # "dense", "time_window", ...; None for a fusion that has none
    seed: str | None
    config: dict[str, str]  # flat: dotted key -> value as text
    made_with: dict[str, str]  # versions
    scores: Scores
    curves: Curves
    families: dict[str, str] = field(default_factory=dict)  # tag -> family, where known
    thresholds: dict[str, float] = field(default_factory=dict)  # tag -> score from which it is listed
    weights: int | None = None  # the number of parameters


def number(value: Any) -> Number:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
