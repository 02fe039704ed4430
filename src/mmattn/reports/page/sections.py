"""The sections of the page below its main table, prepared for the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.runs import Head, Number, RunRecord, Split
from mmattn.reports.page.charts import bars as charts
from mmattn.reports.page.charts import scatter as plots
from mmattn.reports.page.rows import Facts, noise_rows, weightings
from mmattn.reports.statistics import agreement, verdicts
from mmattn.reports.statistics.bundle import Statistics

CURVES = ("train/loss", "val/loss", "val/mAP", "val/captions/cider_d", "train/gradient_share/audio")


def summary(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """The table by family: names of columns, cells (score, how deep its colour) of each run, chance."""
    families = verdicts.families(runs)
    columns: list[tuple[str, list[Number], Number]] = [
        ("all tags", [run.scores.mean for run in runs], _first(run.scores.chance for run in runs))
    ]
    columns += [(f, [run.scores.by_family.get(f) for run in runs], _chance(runs, f)) for f in families]
    if any(run.scores.mean_accuracy is not None for run in runs):
        columns.append(("accuracy", [run.scores.mean_accuracy for run in runs], None))
    for metric in dict.fromkeys(metric for run in runs for metric in run.scores.captions):
        columns.append((metric.replace("_", " "), [run.scores.captions.get(metric) for run in runs], None))
    depth = []
    for _, values, _ in columns:
        known = [value for value in values if value is not None]
        low, high = (min(known), max(known)) if len(known) > 1 else (0.0, 0.0)
        depth.append([plots.heat_level(value, low, high) if high > low else 0 for value in values])
    rows = [
        (run, [(values[i], levels[i]) for (_, values, _), levels in zip(columns, depth, strict=True)])
        for i, run in enumerate(runs)
    ]
    return {"columns": [name for name, *_ in columns], "rows": rows, "chance": [chance for *_, chance in columns]}


def _chance(runs: Sequence[RunRecord], family: str) -> Number:
    """What the same model scores with neither modality: its output is then constant, which is chance."""
    splits = [run.scores.shapley_by_family.get(family) for run in runs]
    return _first(split.value.get("none") for split in splits if split is not None)


def _first(values: Any) -> Number:
    return next((value for value in values if value is not None), None)


def tags(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Rows of the table by tag, by family where families are known."""
    known: dict[str, str] = {}
    for run in runs:
        known |= run.families
    order = {family: i for i, family in enumerate(verdicts.families(runs))}
    rows = []
    names = {tag for run in runs for tag in run.scores.by_tag}
    for tag in sorted(names, key=lambda tag: (order.get(known.get(tag, ""), len(order)), tag)):
        splits = [run.scores.shapley_by_tag.get(tag) for run in runs]
        values = [run.scores.by_tag.get(tag) for run in runs]
        chance = _first(split.value.get("none") for split in splits if split is not None)
        rows.append({"tag": tag, "family": known.get(tag), "chance": chance, "scores": values, "splits": splits})
    return rows


def splits(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A panel for each family and one for all tags: each run's split with its verdict; bars share one scale."""
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
    """A row of the weightings, whether they agree, and what a missing sense leaves of the gain."""
    row = weightings(run)
    none, both = row["v_neither"], row["v_both"]
    for name, alone in (("sound", row["v_picture"]), ("picture", row["v_sound"])):
        gain = None if none is None or both is None or both <= none else both - none
        row[f"kept_without_{name}"] = None if gain is None or alone is None else (alone - none) / gain
    own = agreement.agreement(found, place)
    shown = {metric: found.weighting(metric, place) for metric in found.weightings}
    return row | {"agree": agreement.told(run, own), "finding": agreement.sentence(run, own), "intervals": shown}


def layers(run: RunRecord) -> list[tuple[str, str, list[Head]]]:
    """Layer, reading stream and its heads."""
    layers: dict[tuple[str, str], list[Head]] = {}
    for head in run.scores.heads:
        layers.setdefault((head.layer, head.stream), []).append(head)
    return [(*place, heads) for place, heads in layers.items()]


def noise(groups: Sequence[Group], facts: Facts) -> list[tuple[str, Markup]]:
    """A chart for each kind of noise: mAP, and the sound's share of the split, over loudness; means over seeds."""
    rows = noise_rows(groups, facts)
    found = []
    for kind in sorted({(row["split"], row["kind"]) for row in rows}):
        for key, title in (("mean", "mAP"), ("accuracy", "accuracy"), ("audio", "sound's Shapley share")):
            series = []
            for place, group in enumerate(groups):
                own = [row for row in rows if row["group"] == group.name and (row["split"], row["kind"]) == kind]
                points = []
                for snr in sorted({row["snr_db"] for row in own}):
                    values = [row[key] for row in own if row["snr_db"] == snr and row[key] is not None]
                    points += [(snr, sum(values) / len(values))] if values else []
                series.append((place, group.name, points))
            if any(points for *_, points in series):
                chart = plots.lines(series, "dB, sound over noise", title)
                found.append((f"{title} in {kind[1]} noise, {kind[0]}", chart))
    return found


def curves(runs: Sequence[RunRecord]) -> list[tuple[str, Markup]]:
    families = [f"val/mAP/{family}" for family in verdicts.families(runs)]
    titles = {
        "train/loss": "training loss",
        "val/loss": "validation loss",
        "val/mAP": "mAP, all tags",
        "val/captions/cider_d": "CIDEr-D of captions",
        "train/gradient_share/audio": "sound's share of the encoders' gradient",
    }
    found = []
    for metric in (*CURVES, *families):
        series = [(i, run.name, run.curves.get(metric, ())) for i, run in enumerate(runs)]
        if not any(points for _, _, points in series):
            continue
        whole = metric.startswith(("val/mAP", "train/gradient_share"))
        family = metric.removeprefix("val/mAP/")
        chance = _chance(runs, family) if family in verdicts.families(runs) else None
        chance = _first(run.scores.chance for run in runs) if metric == "val/mAP" else chance
        title = titles.get(metric, f"mAP, {family}")
        found.append((title, charts.curves(series, 1.0 if whole else None, chance)))
    return found


def word_class(video: Number, audio: Number) -> str:
    """How a word of a caption is marked: by the sense that it owes most to, or both where neither is far ahead."""
    seen, heard = max(video or 0.0, 0.0), max(audio or 0.0, 0.0)
    if seen + heard < 0.1:
        return ""
    return "seen" if seen > 2 * heard else "heard" if heard > 2 * seen else "both"
