"""What the numbers say, in words computed from them: verdicts against known answers, and disagreements.

A difference counts from `margin` on, about one standard error of a share among that many clips. That is a rule of
thumb against reading noise as news, not a test of significance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmattn.reports.collect.runs import Head, RunRecord, Split
from mmattn.reports.text import NOTHING, fixed, listing, signed

State = Literal["pass", "fail", "undefined"]
EXPECTED = {
    "picture": "All from the picture, nothing from the sound.",
    "sound": "All from the sound, nothing from the picture.",
    "redundant": "Either one suffices, so each can stand in for the other and the synergy is negative.",
    "synergy": "Neither one suffices, only both together do, so the synergy is positive.",
}
_LEAN = 0.05  # a mean log-ratio of attention below this leans nowhere


@dataclass(frozen=True)
class Verdict:
    """Whether a split is what its family should show, and why."""

    state: State
    text: str


@dataclass(frozen=True)
class Finding:
    """One sentence of the summary. `weight` is "main", "plain" or "caution"."""

    text: str
    weight: Literal["main", "plain", "caution"] = "plain"


def margin(clips: int) -> float:
    """The smallest difference that is called one."""
    return max(0.02, 0.5 / math.sqrt(max(clips, 1)))


def judge(family: str, split: Split, least: float) -> Verdict | None:
    """The verdict on one family's split; None for a family without a known answer."""
    if family not in EXPECTED:
        return None
    none, video, audio, both = (split.value.get(subset) for subset in ("none", "video", "audio", "both"))
    known = (none, video, audio, both, split.video, split.audio, split.synergy)
    if any(value is None for value in known):
        return Verdict("undefined", "undefined: no clip has these tags, or an evaluation is incomplete")
    assert none is not None and video is not None and audio is not None and both is not None
    assert split.video is not None and split.audio is not None and split.synergy is not None
    gain = both - none
    if gain < least:
        text = f"not learned: {fixed(both, 2)} with both is no better than {fixed(none, 2)} with neither"
        return Verdict("fail", f"{text}, so there is nothing to share out")
    if family in ("picture", "sound"):
        return _judge_single(family, split.video, split.audio, max(least, 0.1 * gain))
    if family == "redundant":
        return _judge_redundant(video - none, audio - none, gain, split.synergy, least)
    alone = f"both together {fixed(both, 2)}, picture alone {fixed(video, 2)}, sound alone {fixed(audio, 2)}"
    if split.synergy >= least:
        return Verdict("pass", f"needs both: {alone}")
    return Verdict("fail", f"no joint effect beyond noise ({signed(split.synergy)}): {alone}")


def _judge_single(family: str, video: float, audio: float, tolerance: float) -> Verdict:
    right, wrong = (video, audio) if family == "picture" else (audio, video)
    other = "sound" if family == "picture" else "picture"
    if right > 0 and abs(wrong) <= tolerance:
        return Verdict("pass", f"from the {family}: {signed(right)}, {other} {signed(wrong)}")
    return Verdict("fail", f"the {other} contributes {signed(wrong)}, though it says nothing about these tags")


def _judge_redundant(video: float, audio: float, gain: float, synergy: float, least: float) -> Verdict:
    if min(video, audio) >= gain / 2 and synergy <= -least:
        return Verdict("pass", f"either suffices: picture alone {signed(video)}, sound alone {signed(audio)}")
    if max(video, audio) < gain / 2:
        return Verdict("fail", "neither alone carries it, though either could")
    if min(video, audio) >= gain / 2:
        return Verdict("fail", "the two add up instead of standing in for each other")
    used, spare, alone = ("sound", "picture", video) if audio > video else ("picture", "sound", audio)
    return Verdict("fail", f"leans on the {used}; the {spare} alone gives {signed(alone)} of {signed(gain)}")


def families(runs: Sequence[RunRecord]) -> list[str]:
    """All families, those with a known answer first."""
    found = {family for run in runs for family in run.scores.by_family}
    return [family for family in EXPECTED if family in found] + sorted(found - set(EXPECTED))


def lean(heads: Sequence[Head]) -> tuple[float, str]:
    """The mean log-ratio of attention on sound over heads, and the sense it leans to ("" for neither)."""
    ratios = [head.log_ratio for head in heads if head.log_ratio is not None]
    mean = sum(ratios) / len(ratios) if ratios else 0.0
    return mean, "" if abs(mean) < _LEAN else "sound" if mean > 0 else "picture"


def depends(run: RunRecord) -> str:
    """The sense that the scores over all tags depend on more ("" for neither)."""
    difference = (run.scores.shapley.audio or 0.0) - (run.scores.shapley.video or 0.0)
    return "" if abs(difference) < margin(run.scores.clips) else "sound" if difference > 0 else "picture"


def compare_lean(run: RunRecord, heads: Sequence[Head]) -> str:
    """Where some heads lean, beside what the scores depend on."""
    looks, cause = lean(heads)[1], depends(run)
    if not looks:
        return "leans to neither"
    against = {"": "", looks: ", as the Shapley split does"}.get(cause, ", against the Shapley split")
    return f"leans to the {looks}{against}"


def agreement(run: RunRecord) -> tuple[str, str]:
    """A class and a word for whether attention leans where the Shapley split points."""
    if not run.scores.heads or run.scores.shapley.video is None or run.scores.shapley.audio is None:
        return "none", NOTHING
    looks, cause = lean(run.scores.heads)[1], depends(run)
    if looks and cause:
        return ("yes", f"yes: {looks}") if looks == cause else ("no", f"\u26a0 looks at {looks}, needs {cause}")
    return "none", "no direction"


def disagreement(run: RunRecord) -> Finding | None:
    """Where attention looks against what the scores depend on; None without attention or a Shapley split."""
    split = run.scores.shapley
    if not run.scores.heads or split.video is None or split.audio is None:
        return None
    mean, looks = lean(run.scores.heads)
    cause = depends(run)
    shown = f"(log-ratio {signed(mean)}; Shapley: picture {signed(split.video)}, sound {signed(split.audio)})"
    if looks and cause and looks != cause:
        text = f"They disagree for {run.name}: attention leans to the {looks}, the scores depend more on the {cause}"
        return Finding(f"{text} {shown}.", "caution")
    if looks and looks == cause:
        return Finding(f"They agree for {run.name}: both point to the {looks} {shown}.")
    which = listing([name for name, way in (("attention", looks), ("Shapley split", cause)) if not way])
    return Finding(f"For {run.name} they cannot be compared: no direction overall in its {which} {shown}.")
