"""Is the comparison fair? Sentences on what the runs share, and where else they differ than in what is compared."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.reports.collect.cost import Cost
from mmattn.reports.collect.groups import Group, differing, settings
from mmattn.reports.collect.records import RunRecord
from mmattn.reports.statistics.uncertainty import LEAST_SEEDS
from mmattn.reports.statistics.verdicts import Finding
from mmattn.reports.text import listing, some
from mmattn.text import clock
from mmattn.training.directory.machine import machine_name

HELD = {"params": "the number of parameters", "flops": "the operations of one clip"}  # by budget=
_NAMED = 6  # settings named in a sentence
_WIDE = 1.25  # a ratio of sizes from which a caution is given


def factors_of(groups: Sequence[Group], given: Sequence[str] | None) -> tuple[str, ...]:
    """The parts of the config that are compared.

    Those given, else fusion and attention where they differ, else the encoders, else the first part that differs.
    """
    if given:
        return tuple(given)
    keys = differing([settings(group.mean) for group in groups])
    parts = list(dict.fromkeys(map(_factor, keys)))
    found = [part for part in parts if part in ("fusion", "attention")]
    found = found or [part for part in parts if part in ("visual", "audio")]  # encoders bring their own clip format
    return tuple(found or sorted(parts, key=lambda part: part == "data")[:1])


def fairness(
    groups: Sequence[Group], factors: Sequence[str], costs: dict[str, Cost], seconds: dict[str, float | None]
) -> list[Finding]:
    """One finding each on settings, budget, seeds, sizes, times and machines. `costs`, `seconds`: by a run's path."""
    if len(groups) < 2:
        return []
    return [
        _beside(groups, factors),
        *_budget(groups),
        _seeds(groups),
        _sizes(groups),
        *_times(groups, seconds),
        *_machines(groups, costs),
    ]


def _factor(key: str) -> str:
    """The part of the config that a flat key belongs to; attention is a part of its own wherever it occurs."""
    return "attention" if "attention" in key.split(".") else key.partition(".")[0]


def _beside(groups: Sequence[Group], factors: Sequence[str]) -> Finding:
    keys = differing([settings(group.mean) for group in groups])
    held = _held(groups)
    solved = ("dim",) if held else ()  # what the budget set for each row
    others = [key for key in keys if _factor(key) not in factors and key.rpartition(".")[2] not in solved]
    compared = listing(list(factors)) or "nothing"
    if not others:
        return Finding(f"Compared: {compared}. All other settings are the same in all runs.")
    named = some(others, _NAMED)
    text = f"Compared: {compared}. But the runs also differ in {named}, so a difference may not be due to {compared}."
    return Finding(text, "caution")


def _held(groups: Sequence[Group]) -> str | None:
    """What was made equal before training, by the budget= of the sweep that all rows belong to."""
    budgets = {group.mean.config.get("budget", "null") for group in groups}
    return HELD.get(budgets.pop()) if len(budgets) == 1 else None


def _budget(groups: Sequence[Group]) -> list[Finding]:
    if not (held := _held(groups)):
        return []
    dims = sorted({int(group.mean.config["dim"]) for group in groups})
    width = f"from {dims[0]} to {dims[-1]}" if len(dims) > 1 else f"{dims[0]} for all"
    return [Finding(f"Held equal: {held}. The width (dim) of each row was chosen for that before training: {width}.")]


def _seeds(groups: Sequence[Group]) -> Finding:
    seeds = [tuple(run.seed or "?" for run in group.runs) for group in groups]
    if len(set(seeds)) == 1 and len(seeds[0]) > 1:
        few = len(seeds[0]) < LEAST_SEEDS
        over = f"too few for tests, which need {LEAST_SEEDS}" if few else "so intervals are over clips and seeds"
        return Finding(f"Seeds {some(list(seeds[0]), 10)} each, {over}.", "caution" if few else "plain")
    if max(map(len, seeds)) == 1:
        text = "One seed each, so intervals are over clips only: another seed of training may well change the order."
        return Finding(text, "caution")
    counts = sorted(set(map(len, seeds)))
    text = f"Different seeds: {counts[0]} to {counts[-1]} a row." if len(counts) > 1 else "Different seeds."
    few = f" Rows with fewer than {LEAST_SEEDS} are not tested." if counts[0] < LEAST_SEEDS else ""
    return Finding(text + few, "caution")


def _sizes(groups: Sequence[Group]) -> Finding:
    sizes = [(group.mean.weights, group.name) for group in groups if group.mean.weights]
    if len(sizes) < len(groups):
        return Finding("The number of parameters is unknown for some runs (no model file).", "caution")
    (least, small), (most, large) = min(sizes), max(sizes)
    if least == most:
        return Finding(f"All models have {least:,} parameters.")
    text = f"Parameters: from {least:,} ({small}) to {most:,} ({large}), {most / least:.2f} times as many."
    return Finding(text, "caution" if most > _WIDE * least else "plain")


def _times(groups: Sequence[Group], seconds: dict[str, float | None]) -> list[Finding]:
    found = [(value, run.name) for run in _runs(groups) if (value := seconds.get(str(run.path)))]
    if not found:
        return []
    (least, quick), (most, slow) = min(found), max(found)
    machines = sorted({machine_name(run.made_with) for run in _runs(groups)})
    where = ""
    if not all(machines):
        where = " Some runs do not record their machine, so the times may not be comparable."
    elif len(machines) > 1:
        where = (
            f" The runs come from {len(machines)} machines ({'; '.join(machines)}), so the times are not comparable."
        )
    total = sum(value for value, _ in found)
    alike = f"{clock(most)}{' each' * (len(found) > 1)}"
    took = alike if clock(least) == clock(most) else f"from {clock(least)} ({quick}) to {clock(most)} ({slow})"
    text = f"Training took {took}, {clock(total)} in all.{where}"
    return [Finding(text, "caution" if where else "plain")]


def _machines(groups: Sequence[Group], costs: dict[str, Cost]) -> list[Finding]:
    machines = sorted({cost.machine for run in _runs(groups) if (cost := costs.get(str(run.path)))})
    if not machines:
        return [
            Finding("Operations, latency and memory have not been measured; measure=missing measures them.", "caution")
        ]
    if len(machines) == 1:
        return [Finding(f"Operations, latency and memory of one clip were measured on {machines[0]}.")]
    text = f"Latencies were measured on {len(machines)} machines ({'; '.join(machines)}) and cannot be compared;"
    return [Finding(text + " measure=all measures them all here.", "caution")]


def _runs(groups: Sequence[Group]) -> list[RunRecord]:
    return [run for group in groups for run in group.runs]
