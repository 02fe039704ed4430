"""mmattn explain: one file in, a page, a video and numbers out, every moment at its time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.cli.main import main
from mmattn.data.prepare.clips import ClipSpec
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.decode import read_clip
from mmattn.media.write.video import write_video
from mmattn.reports.explain.canvas import LINE
from mmattn.reports.explain.explained import Explained, ExplainedWindow, Steps
from mmattn.reports.explain.video import write_overlay
from mmattn.weighting.causal import SUBSETS

pytestmark = pytest.mark.usefixtures("warm")

FPS = 10


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds; frame k is a grey of 30 + 4 k; a tone."""
    path = tmp_path_factory.mktemp("film") / "grey.mp4"
    frames = np.stack([np.full((48, 64, 3), 30 + 4 * k, np.uint8) for k in range(5 * FPS)])
    write_video(path, frames, FPS, 0.3 * np.sin(np.arange(5 * 16000) * 0.1).astype(np.float32), options={"crf": "4"})
    return path


def explain(run: Path, source: Path, out: Path, *more: str) -> dict:
    assert main(["explain", f"run={run}", f"source={source}", f"out={out}", "masks=16", "height=64", *more]) == 0
    assert {path.name for path in out.iterdir()} == {"explain.html", "explain.json", "explain.mp4"}
    return json.loads((out / "explain.json").read_text())


def test_a_file_is_explained_from_its_beginning_to_its_end(trained: Path, film: Path, tmp_path: Path):
    record = explain(trained, film, tmp_path / "out")
    assert [window["span"] for window in record["windows"]] == [[0.0, 0.0, 3.0], [2.0, 3.0, 5.0]]
    assert len(record["tags"]) == 4
    for tag in record["tags"]:
        assert set(tag) == {"tag", "score", "video", "audio", "synergy"}
    window = record["windows"][1]
    assert set(window["streams"]) == {"video", "audio"}
    times = window["streams"]["audio"]["times"]
    assert 2.0 <= times[0] < times[-1] <= 5.0
    assert len(window["streams"]["audio"]["causal"][record["tags"][0]["tag"]]) == len(times)
    assert set(window["faithfulness"]) == {"video", "audio", "both"}
    assert 0 < record["attention"]["prior"] < 1
    page = (tmp_path / "out" / "explain.html").read_text()
    assert "default-src 'none'" in page
    shown = read_clip(tmp_path / "out" / "explain.mp4", fps=FPS)
    assert len(shown.frames) == 5 * FPS
    assert shown.waveform.abs().max() > 0.1


def test_the_tag_to_look_at_can_be_named(trained: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    name = explain(trained, film, tmp_path / "a")["tags"][2]["tag"]
    assert explain(trained, film, tmp_path / "b", f"tag={name}", "tags=2")["tags"][0]["tag"] == name
    assert main(["explain", f"run={trained}", f"source={film}", f"out={tmp_path / 'c'}", "tag=unicorn"]) == 2
    assert "tag=unicorn: not a tag of this model" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_what_is_looked_at_can_be_burned_in_instead(trained: Path, film: Path, tmp_path: Path, small, capsys):
    explain(trained, film, tmp_path / "causal")
    record = explain(trained, film, tmp_path / "looked", "heat=attention")
    looked = record["windows"][0]["streams"]["video"]["looked"]
    assert sum(map(sum, looked[record["tags"][0]["tag"]])) > 0
    one, other = (read_clip(tmp_path / name / "explain.mp4", frames=8).frames.float() for name in ("causal", "looked"))
    assert (one - other).abs().mean() > 1
    run = tmp_path / "gru"
    train = ["train", *small, "attention=gru", "logger=none", "trainer.epochs=1", f"run={run}"]
    assert main(train) == 0
    out = tmp_path / "none"
    assert main(["explain", f"run={run}", f"source={film}", f"out={out}", "masks=16", "heat=attention"]) == 2
    assert "has no weights to show; use heat=causal" in capsys.readouterr().err
    assert not out.exists()


def test_sounds_and_pictures_alone_are_explained_too(trained: Path, film: Path, tmp_path: Path):
    write_video(tmp_path / "tone.m4a", None, 1, 0.3 * np.sin(np.arange(32000) * 0.1).astype(np.float32))
    Image.fromarray(np.full((60, 80, 3), 120, np.uint8)).save(tmp_path / "still.png")
    frames = read_clip(film, frames=20).frames.permute(0, 2, 3, 1).numpy()
    write_video(tmp_path / "mute.mp4", frames, FPS)
    for name, sense in (("tone.m4a", "audio"), ("still.png", "video"), ("mute.mp4", "video")):
        record = explain(trained, tmp_path / name, tmp_path / f"out-{name}")
        assert {key for window in record["windows"] for key in window["streams"]} == {sense}
        assert set(record["windows"][0]["faithfulness"]) == {sense}
        assert record["attention"] is None
        assert "only one of picture and sound" in (tmp_path / f"out-{name}" / "explain.html").read_text()


def test_a_hostile_name_is_text(trained: Path, film: Path, tmp_path: Path):
    name = "<script>alert(1)</script>\u202e.mp4".replace("/", "")
    shutil.copy(film, tmp_path / name)
    explain(trained, tmp_path / name, tmp_path / "out")
    page = (tmp_path / "out" / "explain.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_cannot_be_explained_is_said_in_a_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "file").write_text("")
    cases = [
        (f"source={tmp_path / 'text.mp4'}", 1, "not_media"),
        (f"source={tmp_path / 'absent.mp4'}", 2, "no such file"),
        (f"source={tmp_path}", 2, "is a directory"),
        (f"source={tmp_path / 'text.mp4'} out={tmp_path / 'file'}", 2, "not a directory"),
        (f"source={tmp_path / 'text.mp4'} masks=1", 2, "masks=1"),
    ]
    for arguments, code, text in cases:
        given = arguments.split(" ")
        out = [] if any(word.startswith("out=") for word in given) else [f"out={tmp_path / 'out'}"]
        assert main(["explain", f"run={trained}", *given, *out]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert text in error
    assert not (tmp_path / "out").exists()


def test_every_frame_shows_the_picture_and_the_weighting_of_its_time(film: Path, tmp_path: Path):
    """Heat at the third of ten steps only: the pictures nearest to it are tinted, all others are the file's own."""
    times = torch.arange(10) * 0.5 + 0.25
    causal = torch.zeros(1, 10, 1)
    causal[0, 2] = 1.0
    steps = Steps(times, causal, None, None, None)
    scores = {subset: torch.tensor([0.5]) for subset in SUBSETS}
    window = ExplainedWindow(0.0, 0.0, 5.0, torch.zeros(0, 64), scores, {"video": steps}, {})
    found = Explained(film, ["tag"], [window], [])
    with IsolatedReader() as reader:
        stills = write_overlay(found, ClipSpec(), reader, tmp_path / "out.mp4", 48)
    assert [round(still.time, 2) for still in stills] == sorted(round(still.time, 2) for still in stills)
    shown = read_clip(tmp_path / "out.mp4", fps=FPS)
    assert len(shown.frames) == 5 * FPS
    own = read_clip(film, fps=FPS).frames.float()
    top, width = 2 * LINE, shown.frames.shape[3]
    for k, frame in enumerate(shown.frames.float()):
        middle = frame[:, top + 10 : top + 38, width // 2 - 20 : width // 2 + 20].mean(dim=(1, 2))
        red_over_blue = float(middle[0] - middle[2])
        if 1.0 <= k / FPS + 0.05 < 1.5:
            assert red_over_blue > 50
        else:
            assert abs(red_over_blue) < 6
            assert abs(float(middle.mean() - own[k].mean())) < 2  # frames are 4 apart
