"""Verdicts on Shapley splits against the known answers of their families, from their 95 % intervals.

A part of a split counts as positive where its whole interval is above 0, and as negative where it is below. The
intervals are those of the comparison (over clips, and over seeds where there are enough), or of the run's evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmattn.reports.collect.records import Head, RunRecord, Split
from mmattn.reports.text import fixed, signed

State = Literal["pass", "fail", "open", "undefined"]
EXPECTED = {
    "picture": "All from the picture, nothing from the sound.",
    "sound": "All from the sound, nothing from the picture.",
    "redundant": "Either one suffices, so the synergy is negative.",
    "synergy": "Only both together suffice, so the synergy is positive.",
}
SENSE = {"video": "picture", "audio": "sound", "synergy": "synergy"}
_SMALL = 0.1  # of the gain: what the wrong modality may contribute


@dataclass(frozen=True)
class Verdict:
    """Whether a split matches the known answer of its family (open: its intervals do not decide), and why."""

    state: State
    text: str


@dataclass(frozen=True)
class Finding:
    """One sentence of the summary. `weight` is "main", "plain" or "caution"."""

    text: str
    weight: Literal["main", "plain", "caution"] = "plain"


def judge(family: str, split: Split) -> Verdict | None:
    """The verdict on one family's split; None for a family without a known answer."""
    if family not in EXPECTED:
        return None
    if split.gain is None or split.video is None or split.audio is None or split.synergy is None:
        return Verdict("undefined", "no clip has these tags, or an evaluation is incomplete")
    if any(part not in split.interval for part in SENSE):
        return Verdict("undefined", "no interval: evaluate the run again for one")
    if not (split.above("video") or split.above("audio") or split.above("synergy")):
        both, none = (fixed(split.value.get(subset), 2) for subset in ("both", "none"))
        return Verdict("open", f"not shown to be learned: {both} with both, {none} with neither")
    if family in ("picture", "sound"):
        return _judge_single(family, split, split.gain)
    return _judge_redundant(split) if family == "redundant" else _judge_synergy(split)


def _judge_single(family: str, split: Split, gain: float) -> Verdict:
    right, wrong = ("video", "audio") if family == "picture" else ("audio", "video")
    small = _SMALL * max(gain, 0.0)
    if split.above(wrong, small) or split.below(wrong, -small):
        return Verdict("fail", f"depends on the {_interval(split, wrong)}, which has no information on these tags")
    state: State = "pass" if split.above(right) else "open"
    return Verdict(state, f"{_interval(split, right)}; {_interval(split, wrong)}")


def _judge_redundant(split: Split) -> Verdict:
    if split.above("video") != split.above("audio"):
        used, spare = ("video", "audio") if split.above("video") else ("audio", "video")
        return Verdict("fail", f"depends on the {SENSE[used]} only: "
                               f"{_interval(split, spare)}")  # fmt: skip
    if split.below("synergy"):
        return Verdict("pass", f"either suffices: {_interval(split, 'synergy')}")
    if split.above("synergy"):
        return Verdict("fail", f"needs both, though either would suffice: {_interval(split, 'synergy')}")
    return Verdict("open", f"not shown whether one can replace the other: {_interval(split, 'synergy')}")


def _judge_synergy(split: Split) -> Verdict:
    if split.above("synergy"):
        return Verdict("pass", f"needs both: {_interval(split, 'synergy')}")
    state: State = "fail" if split.below("synergy") else "open"
    return Verdict(state, f"no joint effect shown: {_interval(split, 'synergy')}")


def _interval(split: Split, part: str) -> str:
    low, high = split.interval[part]
    return f"{SENSE[part]} {signed(getattr(split, part))} ({signed(low)} to {signed(high)})"


def families(runs: Sequence[RunRecord]) -> list[str]:
    """All families, those with a known answer first."""
    found = {family for run in runs for family in run.scores.by_family}
    return [family for family in EXPECTED if family in found] + sorted(found - set(EXPECTED))


def lean(heads: Sequence[Head]) -> float:
    """The mean log-ratio of attention on sound over its prior, over heads."""
    ratios = [head.log_ratio for head in heads if head.log_ratio is not None]
    return sum(ratios) / len(ratios) if ratios else 0.0


def direction(low: float | None, high: float | None) -> str:
    """The modality that an interval of (sound - picture) points to: "" where it contains 0 or is unknown."""
    if low is None or high is None or low <= 0 <= high:
        return ""
    return "sound" if low > 0 else "picture"
