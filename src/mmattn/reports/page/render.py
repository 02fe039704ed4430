"""One self-contained HTML page from collected runs: no request, every value escaped by the template.

This module decides what is shown and prepares it; report.html.j2 says where, report.css how. The page's one script
(compare.js) sorts, filters and brings out what is there without it; the page allows no other, by its hash.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmattn.reports import html
from mmattn.reports.collect.groups import Group, differing
from mmattn.reports.collect.predictions import Failure, Prediction
from mmattn.reports.collect.runs import RunRecord
from mmattn.reports.page import overview, sections
from mmattn.reports.page.charts import bars as charts
from mmattn.reports.page.disagreements import Disagreement
from mmattn.reports.page.rows import Facts, group_rows, length_rows, run_rows, score_of
from mmattn.reports.statistics import verdicts
from mmattn.reports.statistics.bundle import Statistics
from mmattn.reports.statistics.fairness import fairness
from mmattn.reports.statistics.findings import findings

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
    groups: list[Group]
    found: Statistics
    facts: Facts
    factors: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    samples: list[Disagreement] = field(default_factory=list)
    predictions: str | None = None  # the file they came from
    files_read: int = 0
    examples: list[Example] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    out: str = "compare.html"
    refresh_s: float | None = None

    @property
    def runs(self) -> list[RunRecord]:
        """What each row shows."""
        return [group.mean for group in self.groups]


def render(page: Page) -> bytes:
    """The page as UTF-8 HTML."""
    environment = html.environment()
    environment.globals.update(run_class=charts.run_class, split_bars=charts.split_bars, mass_bar=charts.mass_bar)
    environment.globals.update(tag_bars=charts.tag_bars, word_class=sections.word_class)
    style, script = html.source("report.css"), html.source("compare.js")
    runs = page.runs
    shown = environment.get_template("report.html.j2").render(
        page=page,
        runs=runs,
        shown=runs[: charts.RUN_STYLES],
        styles=charts.RUN_STYLES,
        style=Markup(style),
        style_hash=html.digest(style),
        script=Markup(script),
        script_hash=html.digest(script),
        findings=findings(runs, page.found, _scores(page), overview.metric_name(page.found.main.metric)),
        families=verdicts.families(runs),
        known_families=[family for family in verdicts.families(runs) if family in verdicts.EXPECTED],
        split=runs[0].scores.split,
        csv=Path(page.out).stem,
        several_seeds=any(len(group.runs) > 1 for group in page.groups),
        summary=sections.summary(runs),
        tags=sections.tags(runs),
        splits=sections.splits(runs),
        weighted=[sections.weighted(run, page.found, i) for i, run in enumerate(runs)],
        trends=page.found.trends,
        attention=[sections.layers(run) for run in runs],
        noise=sections.noise(page.groups, page.facts),
        curves=sections.curves(runs),
        failures=page.failures[:_MAX_FAILURES],
        made=_made(runs),
        differences=_differences(runs),
        commands=_commands(page),
        **_overview(page),
    )
    return shown.encode("utf-8")


def _overview(page: Page) -> dict[str, Any]:
    comparison, groups = page.found.main, page.groups
    rows = group_rows(groups, page.found, page.facts)
    return {
        "comparison": comparison,
        "metric_name": overview.metric_name(comparison.metric),
        "fairness": fairness(groups, page.factors, dict(page.facts.costs), dict(page.facts.seconds)),
        "costs_known": any(row["flops"] for row in rows),
        "heat": overview.heat_map(groups, rows),
        "pareto": overview.pareto(rows, comparison.metric, length_rows(groups, page.facts)),
        "evaluate_commands": [_evaluate(path, groups[0].mean.scores.split) for path in comparison.missing],
        **overview.table(groups, rows, run_rows(groups, comparison.metric, page.facts), comparison),
    }


def _scores(page: Page) -> list[float | None]:
    return [score_of(run, page.found.main, place) for place, run in enumerate(page.runs)]


def _made(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Rows of the table of versions."""
    rows: list[tuple[str, list[str | None]]] = [("directory", [str(run.path) for run in runs])]
    rows.append(("fusion", [run.fusion for run in runs]))
    rows.append(("parameters", [None if run.weights is None else f"{run.weights:,}" for run in runs]))
    rows.append(("epoch shown", [None if run.scores.epoch is None else str(run.scores.epoch + 1) for run in runs]))
    keys = list(dict.fromkeys(key for run in runs for key in run.made_with))
    return rows + [(key, [run.made_with.get(key) for run in runs]) for key in keys]


def _differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Settings that are not the same in all runs, without the run's own name and the second copy of the attention."""
    keys = differing([run.config for run in runs])
    skipped = ("run", "resume")
    return [
        (key, [run.config.get(key) for run in runs])
        for key in keys
        if key not in skipped and not key.startswith("attention.")
    ]


def _evaluate(run: Path, split: str) -> str:
    return f"mmattn evaluate {shlex.quote(f'run={run}')} split={split}"


def _commands(page: Page) -> list[str]:
    runs = [run for group in page.groups for run in group.runs]
    commands = [_evaluate(run.path, "test") for run in runs]
    arguments = [f"runs=[{','.join(str(run.path) for run in runs)}]", f"out={page.out}"]
    if page.predictions is not None:
        arguments.insert(1, f"predictions={page.predictions}")
    return [*commands, "mmattn compare " + " ".join(map(shlex.quote, arguments))]
