"""`mmattn demo`, small: every step happens and the report is there. (That cross beats late needs the full size.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.build import build_data
from mmattn.training.run.evaluate import evaluate_run

pytestmark = pytest.mark.usefixtures("warm")


def test_the_demo_ends_with_a_report(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "demo"
    extra = tmp_path / "mine.mp4"
    extra.write_text("not a video")
    options = [f"out={out}", f"videos={shapes}", "clips=24", "epochs=1", f"files=[{extra}]"]
    assert main(["demo", *options]) == 0
    report = out / "report.html"
    assert capsys.readouterr().out.strip() == str(report)
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    for fusion in ("late", "cross"):
        assert json.loads((out / fusion / "evaluation-test.json").read_text())["split"] == "test"
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert all("truth" in line for line in lines), "held-out clips alone: what AVShapes teaches is its own"
    (mine,) = [json.loads(line) for line in (out / "files.jsonl").read_text().splitlines()]
    assert mine["status"] == "failed" and mine["path"] == str(extra)
    assert (out / "files.html").is_file()


@pytest.mark.slow
def test_at_full_size_cross_fusion_learns_what_late_fusion_cannot(tmp_path: Path) -> None:
    """The known answers of AVShapes: late stays at chance on synergy tags, cross does not, and Shapley says why."""
    assert main(["demo", f"out={tmp_path / 'demo'}", f"videos={tmp_path / 'videos'}"]) == 0
    late, cross = (
        json.loads((tmp_path / "demo" / fusion / "evaluation-test.json").read_text()) for fusion in ("late", "cross")
    )
    chance = late["shapley_by_family"]["synergy"]["value"]["none"]
    assert late["metrics"]["mAP_by_family"]["synergy"] < chance + 0.15
    assert cross["metrics"]["mAP_by_family"]["synergy"] > 0.75
    assert cross["shapley_by_family"]["synergy"]["synergy"] > 0.2

    # Shares are noisy on the 90 test clips: what a modality that says nothing scores by luck counts against the other.
    more = [f"data.root={tmp_path / 'unseen'}", "data.clips=900", "data.source.seed=7"]
    unseen = build_data(compose("train", ["data=avshapes", *more])["data"])
    families = evaluate_run(tmp_path / "demo" / "cross", "train", unseen)["shapley_by_family"]
    for family, own in (("picture", "video"), ("sound", "audio")):
        split = families[family]
        assert split[own] / (split["video"] + split["audio"]) >= 0.9, (family, split)
        other = {"video": "audio", "audio": "video"}[own]
        low, high = split["interval"][other]
        assert high < 0.1 * split[own] and low > -0.1 * split[own], (family, split)
    assert families["synergy"]["interval"]["synergy"][0] > 0.2
    assert families["redundant"]["interval"]["synergy"][1] < -0.2
