"""`mmattn predict`'s choices about tags: thresholds from training, tags over time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.training.directory.frozen import read_config

pytestmark = pytest.mark.usefixtures("warm")


def _records(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_training_calibrates_and_predict_and_evaluate_use_it(trained: Path, shapes: Path, tmp_path: Path) -> None:
    evaluation = json.loads((trained / "evaluation.json").read_text())
    checkpoint = load_model(trained)
    grouped = {i for group in checkpoint.vocabulary.exclusive for i in group}
    free = {name for i, name in enumerate(checkpoint.vocabulary.names) if i not in grouped}
    assert read_config(trained)["task"]["calibrate"] == "f1"
    assert checkpoint.thresholds and checkpoint.thresholds.keys() <= free
    f1 = evaluation["metrics"]["f1"]
    assert f1["thresholds"] == dict.fromkeys(free, 0.5) | checkpoint.thresholds
    assert f1["macro"] >= evaluation["metrics"]["f1_at_half"]["macro"]
    assert main(["evaluate", f"run={trained}", "split=test", f"out={tmp_path / 'e.json'}"]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["metrics"]["f1"]["thresholds"] == f1["thresholds"]

    assert main(["predict", f"run={trained}", f"source={shapes / 'clips'}", f"out={tmp_path / 'o.jsonl'}"]) == 0
    for record in _records(tmp_path / "o.jsonl"):
        for tag in record["tags"]:
            if tag["tag"] in free:
                assert tag["score"] >= round(checkpoint.thresholds.get(tag["tag"], 0.5), 4)


def test_tags_over_time_from_the_command_line(trained: Path, shapes: Path, tmp_path: Path) -> None:
    source, out = shapes / "clips" / "000000.mp4", tmp_path / "o.jsonl"
    assert main(["predict", f"run={trained}", f"source={source}", f"out={out}", "span_step_s=1", "threshold=0.2"]) == 0
    (record,) = _records(out)
    assert record["tags"] and record["spans"] == [[0.0, pytest.approx(3.0, abs=0.1)]]
    for tag in record["tags"]:
        assert tag["segments"] and all(0 <= start < end <= 3.1 for start, end in tag["segments"])


def test_views_are_averaged_from_the_command_line(trained: Path, shapes: Path, tmp_path: Path) -> None:
    command = ["predict", f"run={trained}", f"source={shapes / 'clips' / '000000.mp4'}", "threshold=0"]
    scores = {}
    for name, more in (("one", []), ("six", ["views.crops=3", "views.flip=true"])):
        assert main([*command, f"out={tmp_path / name}.jsonl", *more]) == 0
        (record,) = _records(tmp_path / f"{name}.jsonl")
        scores[name] = {tag["tag"]: tag["score"] for tag in record["tags"]}
    assert scores["one"] != scores["six"]
    assert main([*command, f"out={tmp_path / 'one'}.jsonl", "views.crops=3"]) == 2, "another job"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("threshold=2", "threshold=2: expected 0 to 1"),
        ("threshold=high", "threshold=high: expected a number"),
        ("span_step_s=9", "span_step_s=9: expected 0.003 to 3 s"),
        ("views.crops=2", "views.crops=2: expected 1 or 3"),
        ("span_step_s=-1", "span_step_s=-1: expected a number above 0"),
        ("engine.workers=-1", "engine.workers=-1: expected 0 or more"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    wrong: str, says: str, trained: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = shapes / "clips" / "000000.mp4"
    assert main(["predict", f"run={trained}", f"source={source}", f"out={tmp_path / 'o.jsonl'}", wrong]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())
