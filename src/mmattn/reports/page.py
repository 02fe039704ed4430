"""One self-contained HTML page from collected runs: no script, no request, every value escaped by the template.

This module decides what is shown and prepares it; report.html.j2 says where, report.css how.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from mmattn.reports import charts, text, verdicts
from mmattn.reports.collect import Head, Number, RunRecord, Split
from mmattn.reports.predictions import Failure, Prediction

_CURVES = ("train/loss", "val/loss", "val/mAP")
_MAX_FAILURES = 200


@dataclass(frozen=True)
class Example:
    """One prediction with its pictures (data: URIs)."""

    prediction: Prediction
    pictures: list[str]


@dataclass(frozen=True)
class Page:
    """All that goes on a page."""

    title: str
    runs: list[RunRecord]
    notes: list[str] = field(default_factory=list)
    predictions: str | None = None  # the file they came from
    files_read: int = 0
    examples: list[Example] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    out: str = "report.html"


def render(page: Page) -> bytes:
    """The page as UTF-8 HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmattn", "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fixed=text.fixed, signed=text.signed, percent=text.percent, listing=text.listing)
    environment.globals.update(run_class=charts.run_class, split_bars=charts.split_bars, mass_bar=charts.mass_bar)
    environment.globals.update(tag_bars=charts.tag_bars, disagreement=verdicts.disagreement)
    style = files("mmattn.reports").joinpath("report.css").read_text(encoding="utf-8")
    html = environment.get_template("report.html.j2").render(
        page=page,
        runs=page.runs,
        style=Markup(style),
        findings=verdicts.findings(page.runs),
        families=verdicts.families(page.runs),
        least=max(verdicts.margin(run.scores.clips) for run in page.runs),
        summary=_summary(page.runs),
        score_charts=_score_charts(page.runs),
        tags=_tags(page.runs),
        splits=_splits(page.runs),
        attention=[_layers(run) for run in page.runs],
        others=_others(page.runs),
        curves=_curves(page.runs),
        failures=page.failures[:_MAX_FAILURES],
        made=_made(page.runs),
        differences=_differences(page.runs),
        commands=_commands(page),
    )
    return html.encode("utf-8")


def _summary(runs: Sequence[RunRecord]) -> list[tuple[str, list[Number], Number]]:
    """Rows of the summary: name, score of each run, chance."""
    rows: list[tuple[str, list[Number], Number]] = [
        ("mAP, all tags", [run.scores.mean for run in runs], _first(run.scores.chance for run in runs))
    ]
    for family in verdicts.families(runs):
        values = [run.scores.by_family.get(family) for run in runs]
        rows.append((f"mAP, {family}", values, _chance(runs, family)))
    accuracies = [run.scores.mean_accuracy for run in runs]
    if any(value is not None for value in accuracies):
        groups = sorted({group for run in runs for group in run.scores.accuracy})
        label = f"mean accuracy, {text.listing(groups)}" if groups else "mean accuracy"
        rows.append((label, accuracies, None))
    return rows


def _score_charts(runs: Sequence[RunRecord]) -> list[tuple[str, Markup]]:
    found = []
    for name in [*verdicts.families(runs), "all tags"]:
        scores = [run.scores.mean if name == "all tags" else run.scores.by_family.get(name) for run in runs]
        chance = _first(run.scores.chance for run in runs) if name == "all tags" else _chance(runs, name)
        bars = [(i, run.name, score) for i, (run, score) in enumerate(zip(runs, scores, strict=True))]
        found.append((name, charts.score_bars(bars, chance)))
    return found


def _chance(runs: Sequence[RunRecord], family: str) -> Number:
    """What the same model scores with neither modality: its output is then constant, which is chance."""
    splits = [run.scores.shapley_by_family.get(family) for run in runs]
    return _first(split.value.get("none") for split in splits if split is not None)


def _first(values: Any) -> Number:
    return next((value for value in values if value is not None), None)


def _tags(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Rows of the table by tag, by family where families are known; `best` are the runs clearly ahead of the rest."""
    known: dict[str, str] = {}
    for run in runs:
        known |= run.families
    least = max(verdicts.margin(run.scores.clips) for run in runs)
    order = {family: i for i, family in enumerate(verdicts.families(runs))}
    rows = []
    names = {tag for run in runs for tag in run.scores.by_tag}
    for tag in sorted(names, key=lambda tag: (order.get(known.get(tag, ""), len(order)), tag)):
        splits = [run.scores.shapley_by_tag.get(tag) for run in runs]
        values = [run.scores.by_tag.get(tag) for run in runs]
        ranked = sorted((value for value in values if value is not None), reverse=True)
        clear = len(ranked) > 1 and ranked[0] - ranked[1] >= least
        chance = _first(split.value.get("none") for split in splits if split is not None)
        best = [clear and value == ranked[0] for value in values]
        scores = list(zip(values, best, strict=True))
        rows.append({"tag": tag, "family": known.get(tag), "chance": chance, "scores": scores, "splits": splits})
    return rows


def _splits(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A panel for each family and one for all tags: each run's split with its verdict; bars share one scale."""
    named = [(family, verdicts.EXPECTED.get(family)) for family in verdicts.families(runs)]
    panels: list[dict[str, Any]] = [
        {
            "name": family,
            "expected": expected,
            "rows": [
                (i, run, split, verdicts.judge(family, split, verdicts.margin(run.scores.clips)))
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


def _others(runs: Sequence[RunRecord]) -> list[tuple[str, str, list[Number]]]:
    """Rows of what else weighs the senses: name, what it is of, a value for each run. None that no run has."""
    senses = (("picture", "video"), ("sound", "audio"))
    rows = [(f"permutation, {name}", "causal", [run.scores.permutation.get(m) for run in runs]) for name, m in senses]
    rows += [
        (f"gradient share, {name}", "training", [run.scores.gradient_share.get(m) for run in runs])
        for name, m in senses
    ]
    return [row for row in rows if any(value is not None for value in row[2])]


def _layers(run: RunRecord) -> list[tuple[str, str, list[Head], str]]:
    """Layer, reading stream, its heads, and how their lean compares with the Shapley split."""
    layers: dict[tuple[str, str], list[Head]] = {}
    for head in run.scores.heads:
        layers.setdefault((head.layer, head.stream), []).append(head)
    return [(*place, heads, verdicts.compare_lean(run, heads)) for place, heads in layers.items()]


def _curves(runs: Sequence[RunRecord]) -> list[tuple[str, Markup]]:
    families = [f"val/mAP/{family}" for family in verdicts.families(runs)]
    found = []
    for metric in (*_CURVES, *families):
        series = [(i, run.name, run.curves.get(metric, ())) for i, run in enumerate(runs)]
        if not any(points for _, _, points in series):
            continue
        score = metric.startswith("val/mAP")
        family = metric.removeprefix("val/mAP/")
        chance = _chance(runs, family) if family in verdicts.families(runs) else None
        chance = _first(run.scores.chance for run in runs) if metric == "val/mAP" else chance
        titles = {"train/loss": "training loss", "val/loss": "validation loss", "val/mAP": "mAP, all tags"}
        title = titles.get(metric, f"mAP, {family}")
        found.append((title, charts.curves(series, 1.0 if score else None, chance)))
    return found


def _made(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Rows of the table of versions."""
    rows: list[tuple[str, list[str | None]]] = [("directory", [str(run.path) for run in runs])]
    rows.append(("fusion", [run.fusion for run in runs]))
    rows.append(("numbers in the model file", [None if run.weights is None else f"{run.weights:,}" for run in runs]))
    rows.append(("epoch shown", [None if run.scores.epoch is None else str(run.scores.epoch + 1) for run in runs]))
    keys = list(dict.fromkeys(key for run in runs for key in run.made_with))
    return rows + [(key, [run.made_with.get(key) for run in runs]) for key in keys]


def _differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Settings that are not the same in all runs, without the run's own name."""
    keys = dict.fromkeys(key for run in runs for key in run.config if key not in ("run", "resume"))
    rows = [(key, [run.config.get(key) for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _commands(page: Page) -> list[str]:
    commands = [f"mmattn evaluate {shlex.quote(f'run={run.path}')} split=test" for run in page.runs]
    arguments = [f"runs=[{','.join(str(run.path) for run in page.runs)}]", f"out={page.out}"]
    if page.predictions is not None:
        arguments.insert(1, f"predictions={page.predictions}")
    return [*commands, "mmattn compare " + " ".join(map(shlex.quote, arguments))]
