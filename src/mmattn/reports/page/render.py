"""One self-contained HTML page of a comparison: no request, every value escaped by the template.

This module prepares what is shown; report.html.j2 arranges it and report.css styles it. The page's only script sorts,
filters and highlights what is there without it (compare.js: rows, clips.js: clips); the page's policy allows no other,
by its hash.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.config.names import joined
from mmattn.reports import html
from mmattn.reports.collect.groups import differing
from mmattn.reports.collect.records import RunRecord
from mmattn.reports.page import figures, sections, tag_tables
from mmattn.reports.page.charts import bars, svg
from mmattn.reports.page.content import Page
from mmattn.reports.page.heat_map import heat_map
from mmattn.reports.page.main_table import main_table, metric_name
from mmattn.reports.page.rows import length_rows, noise_rows, run_rows
from mmattn.reports.statistics import verdicts
from mmattn.reports.statistics.findings import findings

_MAX_FAILURES = 200
_CHARTS = {"split_bars": bars.split_bars, "mass_bar": bars.mass_bar, "tag_bars": bars.tag_bars,
           "run_class": svg.run_class, "word_class": sections.word_class, "styles": svg.RUN_STYLES}  # fmt: skip


def render(page: Page) -> bytes:
    """The page as UTF-8 HTML."""
    runs, families = page.means, verdicts.families(page.means)
    return html.render(
        "report.html.j2",
        page=page,
        runs=runs,
        shown=runs[: svg.RUN_STYLES],
        families=families,
        known_families=[family for family in families if family in verdicts.EXPECTED],
        split=runs[0].scores.split,
        csv=Path(page.out).stem,
        several_seeds=any(len(group.runs) > 1 for group in page.groups),
        summary=sections.summary(runs),
        tags=sections.tags(runs),
        splits=sections.splits(runs),
        weighted=[sections.weighted(run, page.found, i) for i, run in enumerate(runs)],
        trends=page.found.trends,
        attention=[sections.layers(run) for run in runs],
        noise=figures.noise(page.groups, noise_rows(page.groups, page.facts)),
        curves=figures.learning_curves(runs),
        failures=page.failures[:_MAX_FAILURES],
        made=_made(runs),
        differences=_differences(runs),
        commands=_commands(page),
        **_tagging(page),
        **_overview(page),
        **_CHARTS,
        **html.inline(("report.css",), "compare.js", "clips.js"),
    )


def _overview(page: Page) -> dict[str, Any]:
    """The parts around the main table."""
    main, groups, rows = page.found.main, page.groups, page.rows
    name = metric_name(main.metric)
    return {
        "comparison": main,
        "metric_name": name,
        "findings": findings(page.means, page.found, [row["score"] for row in rows], name),
        "fairness": page.fairness,
        "costs_known": any(row["flops"] for row in rows),
        "heat": heat_map(rows),
        "settings": figures.settings_chart(groups, rows, main.metric),
        "pareto": figures.costs(rows, main.metric, length_rows(groups, page.facts)),
        "evaluate_commands": [_evaluate(path, groups[0].mean.scores.split) for path in main.missing],
        **main_table(groups, rows, run_rows(groups, main.metric, page.facts), main),
    }


def _tagging(page: Page) -> dict[str, Any]:
    """Precision, recall and confusions."""
    results, names = page.tag_results, [group.name for group in page.groups]
    return {
        "tag_results": results,
        "tag_order": range(max((len(one.tags) for one in results if one), default=0)),
        "precision_recall": tag_tables.precision_recall(names, results),
        "confusions": tag_tables.confusions(results, svg.RUN_STYLES),
    }


def _made(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Rows of the table of versions."""
    rows: list[tuple[str, list[str | None]]] = [
        ("directory", [str(run.path) for run in runs]),
        ("fusion", [run.fusion for run in runs]),
        ("parameters", [None if run.weights is None else f"{run.weights:,}" for run in runs]),
        ("epoch shown", [None if run.scores.epoch is None else str(run.scores.epoch + 1) for run in runs]),
    ]
    keys = dict.fromkeys(key for run in runs for key in run.made_with)
    return rows + [(key, [run.made_with.get(key) for run in runs]) for key in keys]


def _differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str | None]]]:
    """Settings that differ between runs, without the run's own name and the second copy of the attention."""
    keys = [key for key in differing([run.config for run in runs]) if key not in ("run", "resume")]
    return [(key, [run.config.get(key) for run in runs]) for key in keys if not key.startswith("attention.")]


def _evaluate(run: Path, split: str) -> str:
    return f"mmattn evaluate {shlex.quote(f'run={run}')} split={split}"


def _commands(page: Page) -> list[str]:
    """What evaluates the runs on the test split and writes the page again."""
    arguments = [f"runs={joined(str(run.path) for run in page.runs)}", f"out={page.out}"]
    if page.predictions is not None:
        arguments.insert(1, f"predictions={page.predictions}")
    compare = "mmattn compare " + " ".join(map(shlex.quote, arguments))
    return [*(_evaluate(run.path, "test") for run in page.runs), compare]
