"""Every kind of source gives the clip that its path gives, in process and isolated; a range is bounded."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from media_clips import movie

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.container import Limits
from mmattn.media.open.source import Source
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.survey.probe import probe
from mmattn.types import ByteRange, Clip

ASKED = Request(fps=25, size=(16, 16))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4", count=9)


@pytest.fixture(scope="module")
def tar(good: Path) -> Path:
    """good.tar: the clip between two other members, and a compressed copy beside it."""
    good.with_name("a.mp4.gz").write_bytes(gzip.compress(good.read_bytes()))
    path = good.with_name("good.tar")
    with tarfile.open(path, "w") as archive:
        for name, data in (("x", b"\xff" * 3000), ("a.mp4", good.read_bytes()), ("y", b"\xff" * 3000)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def in_range(tar: Path) -> ByteRange:
    with tarfile.open(tar) as archive:
        member = archive.getmember("a.mp4")
        return ByteRange(tar, member.offset_data, member.size)


@pytest.fixture(scope="module", params=["here", "isolated"])
def read(request: pytest.FixtureRequest):
    if request.param == "here":
        yield lambda source: read_clip(source, fps=ASKED.fps, size=ASKED.size)
    else:
        with IsolatedReader(deadline_s=20.0) as reader:
            yield lambda source: reader.read(source, ASKED)


Read = Callable[[Source], Clip]


def same(clip: Clip, good: Path) -> bool:
    expected = read_clip(good, fps=ASKED.fps, size=ASKED.size)
    return torch.equal(clip.frames, expected.frames) and torch.equal(clip.waveform, expected.waveform)


def test_bytes_and_ranges_are_read_as_their_file(good: Path, tar: Path, read: Read):
    data, part = good.read_bytes(), in_range(tar)
    for source, name in [
        (str(good), str(good)),
        (data, "<bytes>"),
        (memoryview(bytearray(data)), "<bytes>"),
        (part, f"{tar}[{part.offset}:{part.offset + part.size}]"),
    ]:
        clip = read(source)
        assert same(clip, good) and clip.source == name
        assert probe(source) == probe(good)


@pytest.mark.parametrize("kind", ["file", "raw", "memory", "gzip", "tar"])
def test_file_objects_are_read_from_their_beginning_and_again(good: Path, tar: Path, read: Read, kind: str):
    with tarfile.open(tar) as archive:
        opened = {
            "file": lambda: good.open("rb"),
            "raw": lambda: good.open("rb", buffering=0),
            "memory": lambda: io.BytesIO(good.read_bytes()),
            "gzip": lambda: gzip.GzipFile(good.with_name("a.mp4.gz")),  # has a descriptor, of other bytes
            "tar": lambda: archive.extractfile("a.mp4"),
        }
        with opened[kind]() as file:
            file.seek(100)
            assert same(read(file), good) and same(read(file), good)
            assert not file.closed


def test_a_range_is_bounded_exactly(tar: Path, monkeypatch: pytest.MonkeyPatch):
    part, seen = in_range(tar), []
    pread = os.pread

    def watched(fd: int, count: int, position: int) -> bytes:
        seen.append((position, position + count))
        return pread(fd, count, position)

    monkeypatch.setattr(os, "pread", watched)
    read_clip(part, frames=3)
    probe(part)
    with pytest.raises(MediaError):
        read_clip(ByteRange(tar, part.offset + 8, 10), frames=1)
    assert seen and min(low for low, _ in seen) >= part.offset
    assert max(high for _, high in seen) <= part.offset + part.size


@pytest.mark.parametrize(("offset", "size", "reason"), [(0, 0, "not_media"), (0, 10**9, "truncated")])
def test_a_range_that_holds_no_clip(tar: Path, read: Read, offset: int, size: int, reason: str):
    with pytest.raises(MediaError, match=reason) as caught:
        read(ByteRange(tar, offset, size))
    assert caught.value.path == f"{tar}[{offset}:{offset + size}]"


def test_what_cannot_be_a_source_is_refused(good: Path, tar: Path):
    for wrong in (ByteRange(tar, -1, 10), ByteRange(tar, 0, -1), io.StringIO("a"), io.BytesIO().detach):
        with pytest.raises((ValueError, TypeError)):
            read_clip(wrong, frames=1)  # type: ignore[arg-type]
    closed = io.BytesIO(b"a")
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        read_clip(closed, frames=1)
    with open("/dev/zero", "rb") as device, pytest.raises(MediaError, match="not a regular file"):
        read_clip(device, frames=1)


class _Failing(io.BytesIO):
    def read(self, count: int | None = -1) -> bytes:
        raise OSError("the disk is gone")


def test_a_file_object_that_fails_is_unreadable(good: Path, read: Read):
    with pytest.raises(MediaError, match=r"unreadable.*the disk is gone"):
        read(_Failing(good.read_bytes()))


def test_limits_hold_for_every_source(tar: Path):
    with pytest.raises(MediaError, match="too_long"):
        read_clip(in_range(tar), frames=1, limits=Limits(duration_s=0.1))
