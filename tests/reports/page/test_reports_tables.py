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
from mmattn.reports.page.browsed import browser
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
    found = browser(groups, 3).clips
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
        assert sample.scores == pytest.approx((late, cross)) and sample.mean["score"] == pytest.approx(
            (late + cross) / 2
        )
    assert not browser(groups, 0).clips and len(browser(groups[:1], 1).clips) == 3
    (runs[0] / "evaluation-val-clips.jsonl").unlink()
    alone = browser(groups, 3).clips
    assert {clip.scores[0] for clip in alone} == {None} and {clip.spread for clip in alone} == {0.0}


def test_of_many_clips_those_with_spread_and_those_with_synergy_are_kept(tmp_path: Path) -> None:
    runs = make_grid(tmp_path / "runs", {"late": "late", "cross": "cross"}, ["dense"], 1, tmp_path)
    for run, tilt in zip(runs, (0, 1), strict=True):
        clips = [
            {"id": f"c{i:02}", "tags": ["x"], "value": {"both": 0.5 + tilt * (i < 10) * 0.01 * i}, "synergy": i / 100}
            for i in range(40)
        ]
        (run / "evaluation-val-clips.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    found = browser(group_runs(collect_runs(runs)), 4, most=8)
    assert found.known == 40
    assert [clip.id for clip in found.clips] == ["c09", "c08", "c07", "c06", "c39", "c38", "c37", "c36"]
    assert [clip.id for clip in found.clips if not clip.media.left_out] == ["c09", "c08", "c39", "c38"]
