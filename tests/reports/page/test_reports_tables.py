"""The files beside the page, and the clips on which runs disagree."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from report_runs import make_grid

from mmattn.reports.collect.groups import group_runs
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page.disagreements import disagreements
from mmattn.reports.page.export import to_csv
from mmattn.reports.page.options import Options
from mmattn.reports.page.report import write_report


def test_cells_that_a_spreadsheet_would_run_are_quoted() -> None:
    rows = [{"a": "=1+1", "b": -0.5, "c": None}, {"a": 'x,\n"y', "b": math.nan, "d": ["-1", None, "b"]}]
    cells = list(csv.reader(io.StringIO(to_csv(rows))))
    assert cells == [["a", "b", "c", "d"], ["'=1+1", "-0.5", "", ""], ['x,\n"y', "", "", "'-1 b"]]


def test_all_that_is_shown_lies_beside_the_page(tmp_path: Path) -> None:
    data = tmp_path / "data"
    runs = make_grid(tmp_path / "runs", {"late": "late", "cross": "cross"}, ["dense", "linear"], 2, data)
    out = write_report(runs, None, tmp_path / "c.html", options=Options(samples=2, baseline="cross dense"))
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["baseline"] == "cross dense" and found["factors"] == ["fusion", "attention"]
    assert [row["name"] for row in found["rows"]] == ["late dense", "late linear", "cross dense", "cross linear"]
    assert len(found["runs"]) == 8 and len(found["noise"]) == 24
    page = out.read_text(encoding="utf-8")
    for name in ("rows", "runs", "families", "tags", "heads", "curves", "noise", "samples"):
        lines = list(csv.DictReader(io.StringIO((tmp_path / f"c-{name}.csv").read_text(encoding="utf-8"))))
        assert len(lines) == len(found[name]) > 0, name
    for row in found["rows"]:
        assert f"{row['score']:.3f}" in page
    assert (
        "accuracy in babble noise, val" in page and f"the clips cannot be shown: {data} is not on this machine" in page
    )


def test_the_clips_that_runs_disagree_on_come_first(tmp_path: Path) -> None:
    runs = make_grid(tmp_path / "runs", {"late": "late", "cross": "cross"}, ["dense"], 2, tmp_path)
    groups = group_runs(collect_runs(runs))
    found = disagreements(groups, 3)
    assert [sample.spread for sample in found] == sorted((sample.spread for sample in found), reverse=True)
    assert {sample.id for sample in found} == {"one", "two <b>", "three"}
    lines = {}
    for run in runs:
        for line in (run / "evaluation-val-clips.jsonl").read_text().splitlines():
            record = json.loads(line)
            lines.setdefault(record["id"], {})[run] = record["value"]["both"]
    for sample in found:
        late, cross = ((lines[sample.id][a] + lines[sample.id][b]) / 2 for a, b in (runs[:2], runs[2:]))
        assert sample.spread == pytest.approx(abs(late - cross) / 2)
        assert [word.text for word in sample.rows[0].caption] == ["<i>dog", "barks"]
    assert disagreements(groups[:1], 3) == [] and disagreements(groups, 0) == []
    (runs[0] / "evaluation-val-clips.jsonl").unlink()
    assert disagreements(groups, 3) == [], "only one row is left"
