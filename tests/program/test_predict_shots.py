"""`mmattn predict shots=true`: by the command, with a model that was trained, on a film with a cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.media.write.video import write_video

pytest.importorskip("scenedetect")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    still = np.random.default_rng(0).integers(0, 255, (2, 1, 64, 64, 3), dtype=np.uint8)
    frames = np.concatenate([still[0].repeat(30, axis=0), 255 - still[0].repeat(54, axis=0)])  # cut at 2.5 s of 7
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "film.mp4", frames, 12)
    return tmp_path / "films"


def test_each_shot_is_answered_by_itself(trained: Path, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "shots.jsonl"
    command = ["predict", f"run={trained}", f"source={film}", f"out={out}", "threshold=0"]
    assert main([*command, "shots=true"]) == 0
    (record,) = map(json.loads, out.read_text().splitlines())
    assert record["status"] == "ok" and record["spans"] == [[0.0, pytest.approx(7.0, abs=0.1)]]
    starts = {start for tag in record["tags"] for start, _ in tag["segments"]}
    ends = {end for tag in record["tags"] for _, end in tag["segments"]}
    grouped = [tag for tag in record["tags"] if "/" in tag["tag"]]
    assert grouped and starts | ends <= {0.0, 2.5, 4.75, 7.0, *(e for e in ends if e > 6.9)}
    assert main([*command, "shots=true"]) == 0, "nothing new"


def test_what_does_not_go_together_is_said(
    trained: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = f"out={tmp_path / 'p.jsonl'}"
    assert main(["predict", f"run={trained}", f"source={film}", "shots=true", "span_step_s=1", out]) == 2
    assert "choose one" in capsys.readouterr().err
    assert main(["predict", "model=pretrained", f"source={film}", "shots=true", out]) == 2
    assert "shots=true is for trained models" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"films"}
