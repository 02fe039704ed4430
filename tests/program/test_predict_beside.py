"""A trained run beside annotators: one record a file, and the run's answers are those it gives alone."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.inference.records.result import schema
from mmattn.media.write.video import write_video

pytestmark = pytest.mark.usefixtures("warm")

RATE = 16000


@pytest.fixture(scope="module")
def files(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than two windows of the annotators and no whole number of spans; without sound; a single picture."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (21 * 5 + 2, 48, 64, 3), dtype=np.uint8)
    sound = (0.3 * np.sin(2 * np.pi * 330 * np.arange(int(21.4 * RATE)) / RATE)).astype(np.float32)
    write_video(folder / "long.mkv", frames, 5, sound, RATE)
    write_video(folder / "soundless.mkv", frames[:20], 5)
    write_video(folder / "one_picture.mkv", frames[:1], 5)
    (folder / "wrong.mp4").write_text("no video")
    return folder


def records(out: Path) -> dict[str, dict]:
    return {Path(line["path"]).name: line for line in map(json.loads, out.read_text().splitlines())}


def test_a_run_beside_annotators_says_what_it_says_alone(trained: Path, files: Path, tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    common = [f"run={trained}", f"source={files}", "threshold=0.2", "device=cpu"]
    alone, beside = tmp_path / "alone.jsonl", tmp_path / "beside.jsonl"
    assert main(["predict", *common, f"span_step_s={_seconds(trained)}", f"out={alone}"]) == 0
    assert main(["predict", *common, "model=pretrained", "annotators=[shots]", f"out={beside}"]) == 0
    expected, found = records(alone), records(beside)
    assert found.keys() == expected.keys()
    for name, record in found.items():
        jsonschema.validate(record, schema())
        assert record["status"] == expected[name]["status"], name
        if record["status"] == "failed":
            continue
        assert record["versions"].keys() == record["used"].keys() == {"shots", "run"}
        assert record["used"]["run"] == expected[name]["modality"]["used"]
        assert all(tag["from"] == "run" for tag in record["tags"])
        # Beside annotators the end of a file is measured, which counts for one shorter than a span.
        apart = {"from", "segments"} if name == "one_picture.mkv" else {"from"}
        told, alone_told = (
            [{key: value for key, value in tag.items() if key not in apart} for tag in each["tags"]]
            for each in (record, expected[name])
        )
        assert told == alone_told, name
    assert len(found["long.mkv"]["tags"]) > 3 and found["one_picture.mkv"]["tags"]
    assert len(found["long.mkv"]["shots"]) >= 1


def test_a_stream_that_is_left_out_is_not_used_by_the_run_either(trained: Path, files: Path, tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    out = tmp_path / "out.jsonl"
    chosen = ["model=pretrained", "annotators=[shots]", "modalities=video", f"run={trained}"]
    assert main(["predict", *chosen, f"source={files / 'long.mkv'}", f"out={out}", "threshold=0"]) == 0
    record = records(out)["long.mkv"]
    assert record["used"]["run"] == ["video"]
    assert record["tags"] and all(tag["audio"] == 0 and tag["synergy"] == 0 for tag in record["tags"])


@pytest.mark.parametrize("key", ["attention=time_window", "decoding={method: greedy}"])
def test_what_only_a_run_has_is_refused_without_one(key: str, files: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["predict", "model=pretrained", f"source={files}", key]) == 2
    assert "add run=..." in capsys.readouterr().err


def _seconds(run: Path) -> float:
    clip = load_model(run).clip
    return clip.frame_count / clip.fps
