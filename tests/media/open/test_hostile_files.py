"""Files nobody vouches for: each gives its typed error, and no other file, address or much memory is touched."""

import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from media_clips import indices, movie, numbered

from mmattn.errors import MediaError
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe
from mmattn.media.write.video import write_video


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


def refused(path: Path | str, **options) -> MediaError:
    with pytest.raises(MediaError) as caught:
        read_clip(path, frames=2, **options)
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>no</html>", np.random.default_rng(0).bytes(50_000), b"\x00" * 4096, b"word " * 9000],
    ids=["empty", "html", "random", "zeros", "text"],
)
def test_what_is_no_media_is_not_media(tmp_path: Path, content: bytes):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert refused(path).reason == "not_media"
    with pytest.raises(MediaError):
        probe(path)


def test_a_file_cut_before_its_index_is_truncated(tmp_path: Path, good: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(good.read_bytes()[:2000])
    assert refused(path).reason == "truncated"


def test_a_file_cut_in_the_middle_gives_what_is_there(tmp_path: Path):
    whole = tmp_path / "a.mkv"
    write_video(whole, numbered(28), 5, np.zeros(16000 * 5, np.float32), options={"crf": "1", "bf": "0"})
    (tmp_path / "b.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = read_clip(tmp_path / "b.mkv", fps=5)
    assert "truncated" in clip.issues and 3 < len(clip.frames) < 25


def test_flipped_bytes_cost_some_frames_not_the_file(tmp_path: Path):
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (40, 32, 48, 3), np.uint8), 25, options={"g": "5"})
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 2000, 40):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert len(read_clip(path, fps=25).frames) > 30


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "device", "missing", "link", "dangling", "NUL"])
def test_what_is_no_regular_file_is_unreadable_at_once(tmp_path: Path, good: Path, kind: str):
    path = tmp_path / "a.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(path))
    elif kind == "directory":
        path.mkdir()
    elif kind in ("link", "dangling"):
        path.symlink_to(good if kind == "link" else tmp_path / "nothing")
    target = {"device": "/dev/zero", "NUL": "a\0b"}.get(kind, path)
    started = time.process_time()  # a wait without end is the test runner's to notice
    assert refused(target).reason == "unreadable"
    with pytest.raises(MediaError, match="unreadable"):
        probe(target)
    assert time.process_time() - started < 1


def test_a_link_is_followed_on_request(tmp_path: Path, good: Path):
    (tmp_path / "a.mp4").symlink_to(good)
    assert len(read_clip(tmp_path / "a.mp4", frames=2, follow_symlinks=True).frames) == 2
    assert probe(tmp_path / "a.mp4", follow_symlinks=True).video is not None


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.mp4", b"a\nb.mp4", b"-i.mp4", b"n" * 251 + b".mp4", "\u202egp4.mp4".encode()]
)
def test_odd_names_are_only_names(tmp_path: Path, good: Path, name: bytes):
    path = tmp_path / os.fsdecode(name)
    shutil.copy(good, path)
    clip = read_clip(path, frames=2)
    assert indices(clip.frames) == [6, 18] and clip.source == os.fspath(path)


@pytest.mark.parametrize("how", ["longer", "shorter", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_reported(
    tmp_path: Path, good: Path, how: str, monkeypatch: pytest.MonkeyPatch
):
    path, pread, calls = tmp_path / "a.mp4", os.pread, []
    shutil.copy(good, path)

    def meddling(fd: int, count: int, position: int) -> bytes:
        calls.append(position)
        if len(calls) == 1:
            data = path.read_bytes()
            path.write_bytes({"longer": data + b"more", "shorter": data[:-100], "rewritten": data}[how])
        return pread(fd, count, position)

    monkeypatch.setattr(os, "pread", meddling)
    assert refused(path).reason == "changed"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_no_descriptor_is_left_open(good: Path, tmp_path: Path):
    (tmp_path / "b.mp4").write_bytes(b"no")
    read_clip(good, frames=2)
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        read_clip(good, frames=2)
        refused(tmp_path / "b.mp4")
    assert len(sorted(Path("/proc/self/fd").iterdir())) == len(before)
