"""Precision, recall and confusions of tags, against counting by hand and scikit-learn's definition."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from report_runs import evaluation, make_run

from mmattn.metrics.tags import average_precision
from mmattn.reports.collect.groups import group_runs
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page.report import write_report
from mmattn.reports.statistics.tag_results import precision_at, tag_results
from mmattn.weighting.causal import SUBSETS
from mmattn.weighting.clip_scores import ClipScores, scores_file

TAGS = ("red", "blue", "<b>bang", "never")
#                red  blue bang never
SCORES = [[0.9, 0.1, 0.8, 0.1], [0.6, 0.4, 0.7, 0.2], [0.3, 0.7, 0.6, 0.1], [0.2, 0.8, 0.2, 0.6]]
TRUTH = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four clips; red and blue exclude each other."""
    run = make_run(tmp_path / "a", record=evaluation(clips=4))
    targets, both = torch.tensor(TRUTH).float(), torch.tensor(SCORES)
    families = {"red": "picture", "blue": "picture", "<b>bang": "sound"}
    clips = ClipScores(tuple("wxyz"), TAGS, families, {"colour": (0, 1)}, targets, dict.fromkeys(SUBSETS, both))
    clips.save(scores_file(run, "val"))
    return run


def test_precision_recall_and_confusions_are_those_counted_by_hand(run: Path) -> None:
    (found,) = tag_results(group_runs(collect_runs([run])))
    assert found is not None
    red, blue, bang, never = found.tags
    assert (red.precision, red.recall, red.support, red.threshold) == (0.5, 1.0, 1, None), "clip x is called red"
    assert (blue.precision, blue.recall, blue.support) == (1.0, pytest.approx(2 / 3), 3)
    assert (bang.precision, bang.recall, bang.support, bang.threshold) == (pytest.approx(2 / 3), 1.0, 2, 0.5)
    assert (never.precision, never.recall, never.support, never.ap) == (0.0, None, 0, None)
    assert found.confusions == {"colour": (("red", "blue"), ((1, 0), (1, 2)))}
    assert set(found.curves) == {"all tags", "picture", "sound"}
    sound = dict(found.curves["sound"])
    assert sound[0.0] == sound[0.5] == 1.0 and sound[1.0] == pytest.approx(2 / 3)


def test_the_area_under_the_curve_is_at_least_average_precision() -> None:
    """Interpolated precision is the least falling curve above the plain one."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 20, (200, 5), generator=generator) / 20  # with equal scores
    targets = (torch.rand(200, 5, generator=generator) < scores * 0.6).float()
    curve = precision_at(scores, targets)
    assert bool((curve[1:] <= curve[:-1] + 1e-12).all())
    assert bool((curve[0] >= curve.mean(dim=0)).all())
    ap = average_precision(scores, targets).double()
    assert bool((curve.mean(dim=0) > ap - 0.02).all()) and bool((curve.mean(dim=0) < ap + 0.1).all())
    prevalence = (targets > 0).double().mean(dim=0)
    torch.testing.assert_close(precision_at(torch.ones(200, 5), targets)[-1], prevalence)


def test_the_page_and_its_tables_show_them(run: Path, tmp_path: Path) -> None:
    page = write_report([run], None, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "precision over recall, sound" in page and "best of group" in page and "&lt;b&gt;bang" in page
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["confusions"][2] == {"name": "a", "group": "colour", "truth": "blue", "listed": "red", "clips": 1}
    lines = list(csv.DictReader(io.StringIO((tmp_path / "c-decisions.csv").read_text())))
    assert [line["support"] for line in lines] == ["1", "3", "2", "0"]


def test_runs_without_clip_scores_have_no_curves(tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "b")], None, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "Precision and recall" not in page
