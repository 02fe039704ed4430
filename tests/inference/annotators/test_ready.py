"""`mmattn.load("pretrained")`: the answers of the command, in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mmattn
from mmattn.cli.main import main
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video

pytest.importorskip("scenedetect")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ready") / "a.mkv"
    scenes = np.random.default_rng(0).integers(0, 256, (2, 1, 48, 64, 3), dtype=np.uint8)
    write_video(path, np.concatenate([scene.repeat(30, axis=0) for scene in scenes]), 12)
    return path


def test_the_object_answers_as_the_command_does(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["predict", "model=pretrained", "annotators=[shots]", f"source={clip}", f"out={out}"]) == 0
    record = json.loads(out.read_text())
    with mmattn.load("pretrained", "annotators=[shots]") as ready:
        found = ready(clip)
        bad = ready(clip.with_name("nowhere.mp4"))
        again = [each["shots"] for each in ready.records([clip, str(clip)])]
    assert found.shots == tuple(map(tuple, record["shots"])) and len(found.shots) == 2
    assert dict(found.versions or ()) == record["versions"]
    assert bad.status == "failed" and bad.reason == "unreadable"
    assert again == [record["shots"]] * 2


def test_settings_are_those_of_the_command_line(clip: Path) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        mmattn.load("pretrained", "annotators=[shotz]")
    with pytest.raises(UsageError, match="expected adaptive, transnetv2"):
        mmattn.load("pretrained", "annotators=[shots]", "shots.detector=x")
    with pytest.raises(TypeError, match="pretrained"):
        mmattn.load("runs/x", "annotators=[shots]")  # type: ignore[call-overload]
