"""The tables of the page below its main table, prepared for the template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmattn.reports.collect.records import Head, Number, RunRecord, Split
from mmattn.reports.page.heat_map import heat_level
from mmattn.reports.page.rows import weightings
from mmattn.reports.statistics import agreement, verdicts
from mmattn.reports.statistics.bundle import Statistics


def summary(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """The table by family: names of columns, cells (score, depth of its colour) of each run, chance."""
    families = verdicts.families(runs)
    columns: list[tuple[str, list[Number], Number]] = [
        ("all tags", [run.scores.mean for run in runs], first_known(run.scores.chance for run in runs))
    ]
    columns += [(f, [run.scores.by_family.get(f) for run in runs], chance_of(runs, f)) for f in families]
    if any(run.scores.mean_accuracy is not None for run in runs):
        columns.append(("accuracy", [run.scores.mean_accuracy for run in runs], None))
    for metric in dict.fromkeys(metric for run in runs for metric in run.scores.captions):
        columns.append((metric.replace("_", " "), [run.scores.captions.get(metric) for run in runs], None))
    depth = []
    for _, values, _ in columns:
        known = [value for value in values if value is not None]
        low, high = (min(known), max(known)) if len(known) > 1 else (0.0, 0.0)
        depth.append([heat_level(value, low, high) if high > low else 0 for value in values])
    rows = [
        (run, [(values[i], levels[i]) for (_, values, _), levels in zip(columns, depth, strict=True)])
        for i, run in enumerate(runs)
    ]
    return {"columns": [name for name, *_ in columns], "rows": rows, "chance": [chance for *_, chance in columns]}


def chance_of(runs: Sequence[RunRecord], family: str) -> Number:
    """The score of a family with neither modality: the output is then constant, which is chance."""
    splits = [run.scores.shapley_by_family.get(family) for run in runs]
    return first_known(split.value.get("none") for split in splits if split is not None)


def first_known(values: Iterable[Number]) -> Number:
    """The first of the values that is not None."""
    return next((value for value in values if value is not None), None)


def tags(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Rows of the table by tag, ordered by family where families are known."""
    known: dict[str, str] = {}
    for run in runs:
        known |= run.families
    order = {family: i for i, family in enumerate(verdicts.families(runs))}
    rows = []
    names = {tag for run in runs for tag in run.scores.by_tag}
    for tag in sorted(names, key=lambda tag: (order.get(known.get(tag, ""), len(order)), tag)):
        splits = [run.scores.shapley_by_tag.get(tag) for run in runs]
        values = [run.scores.by_tag.get(tag) for run in runs]
        chance = first_known(split.value.get("none") for split in splits if split is not None)
        rows.append({"tag": tag, "family": known.get(tag), "chance": chance, "scores": values, "splits": splits})
    return rows


def splits(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A panel for each family and one for all tags: each run's split with its verdict, all on one scale."""
    named = [(family, verdicts.EXPECTED.get(family)) for family in verdicts.families(runs)]
    panels: list[dict[str, Any]] = [
        {
            "name": family,
            "expected": expected,
            "rows": [
                (i, run, split, verdicts.judge(family, split))
                for i, run in enumerate(runs)
                if (split := run.scores.shapley_by_family.get(family)) is not None
            ],
        }
        for family, expected in named
    ]
    everything = [(i, run, run.scores.shapley, None) for i, run in enumerate(runs)]
    panels.append({"name": "all tags", "expected": None, "rows": everything})
    parts = [part for panel in panels for row in panel["rows"] for part in _parts(row[2])]
    return [{**panel, "low": min([-0.1, *parts]), "high": max([0.2, *parts])} for panel in panels]


def _parts(split: Split) -> list[float]:
    return [part for part in (split.video, split.audio, split.synergy) if part is not None]


def weighted(run: RunRecord, found: Statistics, place: int) -> dict[str, Any]:
    """A row of the weightings, whether they agree, and what remains of the gain without a modality."""
    row = weightings(run)
    none, both = row["v_neither"], row["v_both"]
    for name, alone in (("sound", row["v_picture"]), ("picture", row["v_sound"])):
        gain = None if none is None or both is None or both <= none else both - none
        row[f"kept_without_{name}"] = None if gain is None or alone is None else (alone - none) / gain
    own = agreement.agreement(found, place)
    shown = {metric: found.weighting(metric, place) for metric in found.weightings}
    return row | {"agree": agreement.cell(run, own), "finding": agreement.sentence(run, own), "intervals": shown}


def layers(run: RunRecord) -> list[tuple[str, str, list[Head]]]:
    """Layers with the stream that reads and its heads."""
    layers: dict[tuple[str, str], list[Head]] = {}
    for head in run.scores.heads:
        layers.setdefault((head.layer, head.stream), []).append(head)
    return [(*place, heads) for place, heads in layers.items()]


def word_class(video: Number, audio: Number) -> str:
    """The mark of a caption's word: the modality with the larger share, or both if neither is far ahead."""
    seen, heard = max(video or 0.0, 0.0), max(audio or 0.0, 0.0)
    if seen + heard < 0.1:
        return ""
    return "seen" if seen > 2 * heard else "heard" if heard > 2 * seen else "both"
