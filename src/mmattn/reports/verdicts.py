"""What the numbers say, in words computed from them: verdicts against known answers, comparisons, disagreements.

A difference counts from `margin` on, about one standard error of a share among that many clips. That is a rule of
thumb against reading noise as news, not a test of significance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmattn.reports.collect import Head, RunRecord, Split
from mmattn.reports.significance import Comparison
from mmattn.reports.text import NOTHING, fixed, listing, signed

State = Literal["pass", "fail", "undefined"]
EXPECTED = {
    "picture": "All from the picture, nothing from the sound.",
    "sound": "All from the sound, nothing from the picture.",
    "redundant": "Either one suffices, so each can stand in for the other and the synergy is negative.",
    "synergy": "Neither one suffices, only both together do, so the synergy is positive.",
}
FEW = 6  # rows that are told one by one
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


def findings(runs: Sequence[RunRecord], comparison: Comparison | None = None) -> list[Finding]:
    """The summary: who is better at what, whether reading across the streams paid off, and how far to trust it.

    Of more than a few runs only what holds for all of them together is said.
    """
    least = max(margin(run.scores.clips) for run in runs)
    tested = comparison is not None and comparison.resampled > 0
    found: list[Finding] = []
    if len(runs) > 1:
        found += _ranked(runs, comparison) if comparison and tested else [_overall(runs, least)]
    if 1 < len(runs) <= FEW:
        found += [*_by_family(runs, least), *_crossing(runs, least)]
    if len(runs) <= FEW:
        found += [*_at_chance(runs), *_known_answers(runs)]
    else:
        found += _known_answers_of_many(runs)
    return [*found, *_cautions(runs, least, tested)]


def _ranked(runs: Sequence[RunRecord], comparison: Comparison) -> list[Finding]:
    """Who is best, and who cannot be told from it."""
    known = [(estimate, run) for estimate, run in zip(comparison.estimates, runs, strict=True) if estimate]
    if len(known) < 2:
        return []
    best, first = max(known, key=lambda pair: pair[0].value)
    letters = set(best.letters.split())
    like = [run.name for estimate, run in known if run is not first and letters & set(estimate.letters.split())]
    score = f"{fixed(best.value)} ({fixed(best.low)} to {fixed(best.high)})"
    if not like:
        return [Finding(f"{first.name} is ahead of every other row beyond chance: {score}.", "main")]
    if len(like) == len(known) - 1:
        text = f"No row is ahead beyond chance: {first.name} has the highest score, {score}, but none differs from it."
        return [Finding(text, "main")]
    named = listing(like[:FEW]) + (f" and {len(like) - FEW} more" if len(like) > FEW else "")
    text = f"{first.name} has the highest score, {score}; {named} cannot be told from it."
    return [Finding(text, "main")]


def _known_answers_of_many(runs: Sequence[RunRecord]) -> list[Finding]:
    """For each family with a known answer, how many rows owe their scores to the senses they should."""
    found = []
    for family in families(runs):
        verdicts = [
            judge(family, run.scores.shapley_by_family[family], margin(run.scores.clips))
            for run in runs
            if family in run.scores.shapley_by_family
        ]
        states = [verdict.state for verdict in verdicts if verdict is not None]
        if states:
            text = f"{states.count('pass')} of {len(states)} rows owe their {family} tags to the senses they should."
            found.append(Finding(text))
    return found


def _overall(runs: Sequence[RunRecord], least: float) -> Finding:
    scored = [(run.scores.mean, run) for run in runs if run.scores.mean is not None]
    if len(scored) < 2:
        return Finding("Fewer than two runs have a score, so they cannot be compared.", "main")
    ranked = sorted(scored, key=lambda pair: -pair[0])
    (best, first), (next_best, _) = ranked[:2]
    others = listing([f"{run.name} {fixed(value, 2)}" for value, run in ranked[1:]])
    if best - next_best < least:
        text = f"No clear winner over all tags: {first.name} {fixed(best, 2)} mAP, {others}."
    else:
        text = f"{first.name} scores highest over all tags: {fixed(best, 2)} mAP ({others})."
    return Finding(text, "main")


def _by_family(runs: Sequence[RunRecord], least: float) -> list[Finding]:
    """Which runs lead which families; where no run is ahead of any other it is a tie."""
    leads: dict[str, list[str]] = {}
    shared: list[Finding] = []
    ties: list[str] = []
    for family in families(runs):
        scored = [(run.scores.by_family.get(family), run.name) for run in runs]
        ranked = sorted(((value, name) for value, name in scored if value is not None), reverse=True)
        if len(ranked) < 2:
            continue
        (best, name), (second, _) = ranked[:2]
        if best - second >= least:
            leads.setdefault(name, []).append(f"{family} tags ({fixed(best, 2)} against {fixed(second, 2)})")
        elif best - ranked[-1][0] < least:
            ties.append(family)
        else:
            ahead = [name for value, name in ranked if best - value < least]
            behind = [f"{name} ({fixed(value, 2)})" for value, name in ranked if best - value >= least]
            text = f"{listing(ahead)} share the lead at {family} tags ({fixed(best, 2)}), ahead of {listing(behind)}."
            shared.append(Finding(text))
    found = shared + [Finding(f"{name} is better at {listing(what)}.") for name, what in leads.items()]
    return found + ([Finding(f"About equal at {listing(ties)} tags.")] if ties else [])


def _crossing(runs: Sequence[RunRecord], least: float) -> list[Finding]:
    """Did reading across the streams help where only both together can?"""
    found = []
    for late in (run for run in runs if run.fusion == "late"):
        for run in (run for run in runs if run.fusion != "late"):
            ours, theirs = run.scores.by_family.get("synergy"), late.scores.by_family.get("synergy")
            if ours is None or theirs is None:
                continue
            numbers = f"({fixed(ours, 2)} against {fixed(theirs, 2)})"
            if ours - theirs >= least:
                text = f"{run.name} beats {late.name} on the tags that need both senses {numbers}."
            else:
                how = "does not beat" if ours >= theirs - least else "is worse than"
                text = f"{run.name} {how} {late.name} on the tags that need both senses {numbers}: "
                text += "reading across the streams has not paid off here."
            found.append(Finding(text, "main"))
    return found


def _at_chance(runs: Sequence[RunRecord]) -> list[Finding]:
    found = []
    for run in runs:
        least = margin(run.scores.clips)
        gains = {family: run.scores.shapley_by_family[family].gain for family in run.scores.shapley_by_family}
        stuck = [family for family in families([run]) if (gain := gains.get(family)) is not None and gain < least]
        if stuck:
            found.append(Finding(f"{run.name} is at chance on {listing(stuck)} tags: it has not learned them."))
    return found


def _known_answers(runs: Sequence[RunRecord]) -> list[Finding]:
    """How many families owe their scores to what they should."""
    found = []
    for run in runs:
        least = margin(run.scores.clips)
        judged = {family: judge(family, split, least) for family, split in run.scores.shapley_by_family.items()}
        states = {family: verdict.state for family, verdict in judged.items() if verdict is not None}
        wrong = [family for family in families([run]) if states.get(family) == "fail"]
        if states:
            right = f"{list(states.values()).count('pass')} of {len(states)} families"
            but = f", not in {listing(wrong)}" if wrong else ""
            found.append(Finding(f"{run.name} owes its scores to the senses it should in {right}{but}."))
    return found


def _cautions(runs: Sequence[RunRecord], least: float, tested: bool) -> list[Finding]:
    clips, splits = {run.scores.clips for run in runs}, {run.scores.split for run in runs}
    sources = {tuple(sorted(i for i in run.config.items() if i[0].startswith("data.source."))) for run in runs}
    tags = {tuple(sorted(run.scores.by_tag)) for run in runs}
    found = []
    if max(map(len, (clips, splits, sources, tags))) > 1:
        text = "The runs were not scored on the same clips and tags, so their differences are not like for like."
        found.append(Finding(text, "caution"))
    fewest = min(clips)
    text = f"Scores rest on {fewest} clips, so differences below about {fixed(least, 2)} are noise and are called equal"
    text += " here" + (" where no interval is given." if tested else "; one seed a run says nothing about other seeds.")
    found.append(Finding(text, "caution"))
    if splits == {"val"}:
        text = "These validation clips also chose the epoch that is shown, so scores are a little flattering."
        found.append(Finding(text, "caution"))
    return found


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
