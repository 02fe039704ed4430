"""The charts of the page, from rows and runs: costs, noise, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mmattn.reports.collect.groups import Group, differing, settings
from mmattn.reports.collect.records import RunRecord
from mmattn.reports.page.charts.lines import Series, lines
from mmattn.reports.page.charts.parallel import Axis, parallel
from mmattn.reports.page.charts.scatter import CostPoint, scatter
from mmattn.reports.page.main_table import COSTS, metric_name
from mmattn.reports.page.rows import Row
from mmattn.reports.page.sections import chance_of, first_known
from mmattn.reports.statistics import verdicts

_MOST_AXES = 8
Figure = tuple[str, Markup]  # caption and chart
_CURVES = {
    "train/loss": "training loss",
    "val/loss": "validation loss",
    "val/mAP": "mAP, all tags",
    "val/captions/cider_d": "CIDEr-D of captions",
    "train/gradient_share/audio": "sound's share of the encoders' gradient",
}


def costs(rows: Sequence[Row], metric: str, lengths: Sequence[Row]) -> list[Figure]:
    """Score against each cost that at least two rows have, and cost over the length of the clip."""
    found = []
    for key, unit, title in COSTS:
        points = [
            CostPoint(place, row["name"], row[key] / unit, row["score"])
            for place, row in enumerate(rows)
            if row[key] and row["score"] is not None
        ]
        if len(points) > 1:
            found.append((f"score against {title}", scatter(points, title, metric_name(metric))))
    for key, unit, title in (("flops", 1e6, "MFLOP"), ("peak_bytes", 1e6, "peak MB")):
        series: list[Series] = []
        for place, row in enumerate(rows):
            points = [(one["seconds"], one[key] / unit) for one in lengths if one["name"] == row["name"]]
            series += [(place, row["name"], points)] if len(points) > 1 else []
        if series:
            found.append((f"{title} over the clip's length", lines(series, "s", title)))
    return found


def settings_chart(groups: Sequence[Group], rows: Sequence[Row], metric: str) -> Markup | None:
    """Parallel coordinates of the settings that differ and the score; None for fewer than three settings."""
    configs = [settings(group.mean) for group in groups]
    keys = [key for key in differing(configs) if not key.startswith("fusion.") and "_target_" not in key]
    chosen = [(key, [row[key] or "none" for row in rows]) for key in ("fusion", "attention")]
    chosen += [(key, [config.get(key, "none") for config in configs]) for key in keys]
    chosen = [(key, values) for key, values in chosen if len(set(values)) > 1]
    if len(chosen) < 3 or any(row["score"] is None for row in rows):
        return None
    axes = [Axis(key.removeprefix("optim."), values) for key, values in chosen[:_MOST_AXES]]
    axes.append(Axis(metric_name(metric), [f"{row['score']:.4f}" for row in rows]))
    return parallel([group.name for group in groups], axes)


def noise(groups: Sequence[Group], rows: Sequence[Row]) -> list[Figure]:
    """For each kind of noise: mAP, accuracy and the sound's share of the split over loudness; means over seeds."""
    found = []
    for split, kind in sorted({(row["split"], row["kind"]) for row in rows}):
        for key, title in (("mean", "mAP"), ("accuracy", "accuracy"), ("audio", "sound's Shapley share")):
            series: list[Series] = []
            for place, group in enumerate(groups):
                values: dict[float, list[float]] = {}
                for row in rows:
                    same = (row["group"], row["split"], row["kind"]) == (group.name, split, kind)
                    if same and row[key] is not None:
                        values.setdefault(row["snr_db"], []).append(row[key])
                series.append((place, group.name, [(snr, sum(v) / len(v)) for snr, v in sorted(values.items())]))
            if any(points for *_, points in series):
                found.append((f"{title} in {kind} noise, {split}", lines(series, "dB, sound over noise", title)))
    return found


def learning_curves(runs: Sequence[RunRecord]) -> list[Figure]:
    """Losses and scores over epochs, with chance where it is known."""
    families = {f"val/mAP/{family}": family for family in verdicts.families(runs)}
    found = []
    for metric in (*_CURVES, *families):
        series = [(i, run.name, run.curves.get(metric, ())) for i, run in enumerate(runs)]
        values = [value for *_, points in series for _, value in points]
        if not values:
            continue
        is_share = metric.startswith(("val/mAP", "train/gradient_share"))
        chance = chance_of(runs, families[metric]) if metric in families else None
        if metric == "val/mAP":
            chance = first_known(run.scores.chance for run in runs)
        title = _CURVES.get(metric) or f"mAP, {families[metric]}"
        bounds = (min(0.0, *values), 1.0 if is_share else max(values) or 1.0)
        found.append((title, lines(series, "epoch", title.partition(",")[0], bounds, chance)))
    return found
