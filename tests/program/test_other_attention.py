"""`mmattn evaluate attention=...`: what a sparse attention loses is measured on the model that was trained dense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmattn.cli.main import main

pytestmark = pytest.mark.usefixtures("warm")


def _evaluation(run: Path, *overrides: str) -> dict:
    out = run.parent / "switched.json"
    assert main(["evaluate", f"run={run}", f"out={out}", *overrides]) == 0
    return json.loads(out.read_text())


def _numbers(node: dict, place: str = "") -> Iterator[tuple[str, float]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{place}/{name}")
        elif isinstance(value, (int, float)):
            yield f"{place}/{name}", value


def test_a_window_over_all_evaluates_as_dense(trained: Path) -> None:
    plain = _evaluation(trained)
    whole = _evaluation(trained, "attention=time_window", "attention.pattern.past_s=9", "attention.pattern.future_s=9")
    ours, theirs = (dict(_numbers(record["metrics"])) for record in (whole, plain))
    assert ours.keys() == theirs.keys() and ours == pytest.approx(theirs, abs=1e-5)
    assert "switched" not in plain
    assert whole["switched"]["pattern"]["past_s"] == 9
    ours, theirs = (record["attention"][0]["mass"]["audio"] for record in (whole, plain))
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_each_switch_has_a_file_of_its_own_and_the_runs_own_stays(trained: Path, capsys: pytest.CaptureFixture) -> None:
    before = (trained / "evaluation.json").read_bytes()
    assert main(["evaluate", f"run={trained}", "attention=time_window", "attention.pattern.past_s=0.1"]) == 0
    assert "evaluation-val-time_window-past_s=0.1.json" in capsys.readouterr().out
    record = json.loads((trained / "evaluation-val-time_window-past_s=0.1.json").read_text())
    assert record["metrics"]["mAP"] is not None
    assert (trained / "evaluation.json").read_bytes() == before


def test_what_does_not_fit_is_one_line(trained: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", f"run={trained}", "attention=additive"]) == 2
    assert "weights that were not trained (score)" in capsys.readouterr().err
    assert main(["evaluate", f"run={trained}", "attention=dens"]) == 2
    assert "did you mean dense" in capsys.readouterr().err


def test_predict_takes_another_attention_too(trained: Path, shapes: Path, tmp_path: Path) -> None:
    video = next(shapes.rglob("*.mp4"))
    out = tmp_path / "lines.jsonl"
    command = ["predict", f"run={trained}", f"source={video}", f"out={out}"]
    assert main([*command, "attention=linear"]) == 0
    switched = json.loads(out.read_text())
    assert main([*command, "resume=false"]) == 0
    assert switched["status"] == "ok"
    assert switched["tags"] != json.loads(out.read_text())["tags"]


def test_a_regulariser_changes_training_and_is_logged(small: list[str], tmp_path: Path) -> None:
    runs = [tmp_path / "plain", tmp_path / "hoyer"]
    for run, extra in zip(runs, ([], ["regulariser=hoyer", "regulariser.weight=10"]), strict=True):
        assert main(["train", *small, "trainer.epochs=1", "fusion=cross", "logger=none", f"run={run}", *extra]) == 0
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    assert not any("train/regulariser" in line for line in lines[0])
    assert any(line.get("train/regulariser", 0) > 0 for line in lines[1])
    masses = [json.loads((run / "evaluation.json").read_text())["attention"] for run in runs]
    assert masses[0] != masses[1]


def test_a_regulariser_with_nothing_to_measure_is_refused_before_anything_is_written(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["train", *small, "fusion=late", "regulariser=hoyer", f"run={tmp_path / 'run'}"]) == 2
    assert "finds nothing to measure" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
