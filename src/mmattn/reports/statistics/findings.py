"""The summary of a comparison, in sentences computed from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.reports.collect.runs import RunRecord
from mmattn.reports.statistics.significance import Comparison
from mmattn.reports.statistics.verdicts import Finding, families, judge, margin
from mmattn.reports.text import fixed, listing

FEW = 6  # rows that are told one by one


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
        judged = [
            judge(family, run.scores.shapley_by_family[family], margin(run.scores.clips))
            for run in runs
            if family in run.scores.shapley_by_family
        ]
        states = [verdict.state for verdict in judged if verdict is not None]
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
