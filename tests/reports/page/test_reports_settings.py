"""Parallel coordinates of the settings of a sweep."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from report_runs import FAMILIES, evaluation, make_run

from mmattn.reports.page.charts.parallel import Axis, parallel
from mmattn.reports.page.report import write_report


def test_an_axis_of_numbers_is_to_scale_and_one_of_words_evenly_spaced() -> None:
    heights, labels = Axis("x", ["1", "2", "3"]).places()
    assert heights[0] - heights[1] == heights[1] - heights[2] > 0 and [text for _, text in labels] == ["1", "2", "3"]
    heights, _ = Axis("lr", ["1e-4", "1e-3", "1e-2"]).places()
    assert abs((heights[0] - heights[1]) - (heights[1] - heights[2])) < 1e-6, "logarithmic over two decades"
    heights, labels = Axis("kind", ["late", "cross", "late"]).places()
    assert heights[0] == heights[2] != heights[1] and [text for _, text in labels] == ["cross", "late"]
    assert len(Axis("many", [str(i) for i in range(30)]).places()[1]) == 2


def test_names_are_escaped_and_each_run_has_a_line() -> None:
    chart = parallel(["<b>", "b"], [Axis("<i>", ["1", "2"]), Axis("mAP", ["0.5", "0.6"])])
    assert chart.count("<polyline") == 2 and "<b>" not in chart and "<i>" not in chart


def test_a_sweep_of_three_settings_is_drawn_and_one_of_two_is_not(tmp_path: Path) -> None:
    runs = []
    for i in range(4):
        record = evaluation(FAMILIES | {"synergy": (0.45, 0.45, 0.45, 0.5 + 0.1 * i)})
        run = make_run(tmp_path / f"r{i}", record=record, lr=0.001 * (i + 1))
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"dim": 32 * (i + 1), "heads": 2 + i % 2}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        runs.append(run)
    page = write_report(runs, None, tmp_path / "c.html").read_text(encoding="utf-8")
    assert re.search(r'aria-label="dim, heads, lr, mAP of each run"', page), "three settings and the score"
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"heads": 2}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "Settings and score" not in write_report(runs, None, tmp_path / "c.html").read_text(encoding="utf-8")
