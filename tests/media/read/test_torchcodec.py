"""torchcodec in PyAV's place: the same frames at the same times, the same sound, the same answers to bad files."""

from __future__ import annotations

import json
from pathlib import Path

import iscc_samples
import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.data.load.reader import ClipReader
from mmattn.errors import MediaError, UsageError
from mmattn.media.read.decode import decode
from mmattn.media.read.request import Request
from mmattn.media.read.torchcodec import check_installed, decode_with_torchcodec
from mmattn.media.write.video import write_video

try:
    check_installed()
except UsageError as error:
    pytest.skip(str(error), allow_module_level=True)

SAMPLES = [Path(path) for path in iscc_samples.videos()]


@pytest.mark.parametrize("asked", [Request(frames=5), Request(fps=4.0, start=1.3, end=2.9, audio_rate=8000)], ids=str)
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.suffix)
def test_it_gives_what_the_reader_gives(path: Path, asked: Request):
    try:
        ours = decode(asked, path)
    except MediaError as error:
        with pytest.raises(MediaError) as caught:
            decode_with_torchcodec(asked, path)
        assert caught.value.reason == error.reason
        return
    theirs = decode_with_torchcodec(asked, path)
    assert set(theirs.issues) - {"pyav_frames"} == set(ours.issues)
    np.testing.assert_array_equal(theirs.frame_times, ours.frame_times)
    for one, other in ((theirs.waveform, ours.waveform), (theirs.frames, ours.frames)):
        assert (one is None) == (other is None)
    if ours.waveform is not None:
        np.testing.assert_array_equal(theirs.waveform, ours.waveform)
    if ours.frames is not None:
        assert np.abs(theirs.frames.astype(int) - ours.frames).mean() < 3
    if path.suffix in (".mp4", ".mkv", ".mov", ".m4v", ".webm"):
        assert "pyav_frames" not in theirs.issues, "it was torchcodec that decoded"


def test_each_time_gets_the_frame_shown_then(tmp_path: Path):
    frames = np.stack([np.full((48, 64, 3), 8 * k, np.uint8) for k in range(30)])
    write_video(tmp_path / "a.mp4", frames, 10, options={"crf": "4", "g": "12"})
    times = (0.0, 0.099, 0.1, 0.15, 1.49, 2.9, 2.999)
    found = decode_with_torchcodec(Request(times=times, size=(32, 32), fit="pad"), tmp_path / "a.mp4")
    seen = found.frames[:, 0, 16, 16] / 8
    np.testing.assert_allclose(seen, [0, 0, 1, 1, 14, 29, 29], atol=0.4)
    short = decode_with_torchcodec(Request(times=(0.0, 2.0, 3.5)), tmp_path / "a.mp4")
    assert len(short.frames) == 2, "the picture ends before the last time"


def test_it_is_chosen_by_config_and_not_isolated(tmp_path: Path, capsys: pytest.CaptureFixture):
    reader = ClipReader(isolated=False, torchcodec="cpu")
    sample = next(path for path in SAMPLES if path.suffix == ".mp4")
    assert len(reader(sample, Request(frames=3, size=(16, 16))).frames) == 3
    train = ["train", "data=folder", f"data.root={tmp_path}", "data.reader=torchcodec", f"run={tmp_path / 'r'}"]
    write_video(tmp_path / "a.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8)
    rows = [{"id": split, "path": "a.mp4", "tags": ["x"], "split": split} for split in ("train", "val")]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(train) == 2
    assert "data.isolated=false" in capsys.readouterr().err
    assert main([*train[:3], "data.reader=avx", train[-1]]) == 2
    assert "data.reader=avx: expected av or torchcodec" in capsys.readouterr().err
