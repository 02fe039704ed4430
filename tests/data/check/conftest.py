"""The checked library that the tests of this folder share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from check_library import HOSTILE, RATE, beeps, moving, run_check, uneven, wav

from mmattn.data.check.command import Checked
from mmattn.media.write.video import write_video


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    write_video(root / "a good.mp4", moving(), 10, beeps())
    shutil.copy(root / "a good.mp4", root / "copy.mp4")
    (root / "sub").mkdir()
    write_video(root / "sub/smaller.mkv", moving()[:, ::2, ::2], 10, 0.5 * beeps(), options={"crf": "35"})
    write_video(root / "other sound.mp4", moving(), 10, beeps(seed=5))
    write_video(root / "soundless.mp4", moving(seed=1), 10)
    write_video(root / "silent.mp4", moving(seed=2), 10, np.zeros(2 * RATE, np.float32))
    write_video(
        root / "still.mp4", np.tile(moving(seed=3)[:1], (20, 1, 1, 1)), 10, beeps(seed=3), options={"crf": "18"}
    )
    write_video(root / "black.mp4", np.zeros((20, 48, 64, 3), np.uint8), 10, beeps(seed=4))
    write_video(root / "short.mp4", moving(0.5, seed=6), 10, beeps(0.5, 6))
    wav(root / "sound only.wav", beeps(seed=8))
    long = np.zeros(90 * RATE, np.float32)
    long[round(7.2 * RATE) : round(7.6 * RATE)] = beeps(0.4, 9)  # between the spans that a sample hears
    wav(root / "rare.wav", long)
    uneven(root / "uneven.mkv")
    whole = (root / "a good.mp4").read_bytes()
    (root / "garbage.mp4").write_bytes(b"<html>" * 99)
    (root / "empty.mp4").write_bytes(b"")
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    os.mkfifo(root / "pipe.mp4")
    (root / "link.mp4").symlink_to("a good.mp4")
    (root / HOSTILE).write_bytes(b"no media")
    (root / os.fsdecode(b"\xff\n.mp4")).write_bytes(whole)
    (root / ".hidden.mp4").write_bytes(b"not asked for")
    return root


@pytest.fixture(scope="session")
def checked(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return run_check(library, tmp_path_factory.mktemp("out"))
