"""Below the source no link is followed, in no part of the way; above it they are whoever's named the source."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from media_clips import movie

from mmattn.data.check.scan import LocalReader
from mmattn.data.manifest.library import root_of
from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open import beneath
from mmattn.media.open.source import opened
from mmattn.types import ByteRange


@pytest.fixture(params=["openat2", "step by step"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "step by step":
        monkeypatch.setattr(beneath, "_openat2", lambda *_: (-1, errno.ENOSYS))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """given -> real, in which lie good files and links."""
    (tmp_path / "real" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name in ("real/a.mp4", "real/sub/deep/b.mp4", "outside/secret.mp4"):
        (tmp_path / name).write_bytes(b"x" * 100)
    (tmp_path / "real" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "real" / "inside").symlink_to("sub")
    (tmp_path / "real" / "c.mp4").symlink_to("a.mp4")
    (tmp_path / "given").symlink_to("real")
    return tmp_path / "given"


def refusal(path: Path, root: Path, follow: bool = False) -> str | None:
    try:
        with opened(path, follow, root):
            return None
    except MediaError as error:
        assert error.reason == "unreadable"
        return error.detail


def test_what_lies_there_is_opened(source: Path, way: None):
    root = root_of(source)
    assert root == source.resolve()
    for name in ("a.mp4", "sub/deep/b.mp4"):
        assert refusal(root / name, root) is None, "by its own name"
        assert refusal(source / name, source) is None, "by the link that the user named"
    with opened(ByteRange(root / "a.mp4", 10, 20), beneath=root) as one:
        assert one.range == (10, 20)


@pytest.mark.parametrize("name", ["c.mp4", "link/secret.mp4", "inside/deep/b.mp4", "sub/../a.mp4", "../real/a.mp4"])
def test_no_link_is_followed(source: Path, way: None, name: str):
    root = source.resolve()
    assert "symbolic link" in (refusal(Path(f"{root}/{name}"), root) or "")
    assert refusal(Path(f"{root}/{name}"), root, follow=True) is None


@pytest.mark.parametrize("name", ["none.mp4", "a.mp4/b", "none/b.mp4", "sub", "."])
def test_other_refusals_keep_their_reason(source: Path, way: None, name: str):
    told = refusal(source.resolve() / name, source.resolve())
    assert told and "symbolic link" not in told


def test_a_place_outside_is_refused(source: Path, way: None):
    assert refusal(source.parent / "outside" / "secret.mp4", source.resolve()) is not None


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(source: Path, way: None):
    """Somebody swaps it as fast as they can: what is opened is the file or nothing, never the one outside."""
    root, stop = source.resolve(), threading.Event()
    folder, away, link = root / "sub" / "deep", root / "away", root / "to-outside"
    (root.parent / "outside" / "b.mp4").write_bytes(b"secret")

    def swap() -> None:
        while not stop.is_set():
            folder.rename(away)
            os.symlink(root.parent / "outside", link)  # noqa: PTH211
            link.rename(folder)
            folder.unlink()
            away.rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    read = refused = 0
    try:
        while read < 50 or refused < 50:
            try:
                with opened(folder / "b.mp4", beneath=root) as one:
                    assert os.pread(one.fd, 6, 0) != b"secret"
                    read += 1
            except MediaError:
                refused += 1
    finally:
        stop.set()
        thread.join()


@pytest.fixture(params=["isolated", "here"])
def reads(request: pytest.FixtureRequest) -> Iterator[Callable[[Path, Path | None], str | None]]:
    def read(path: Path, root: Path | None) -> str | None:
        reader = (IsolatedReader if request.param == "isolated" else LocalReader)(
            deadline_s=30.0, follow_symlinks=False, beneath=root
        )
        try:
            reader.survey(path, "header")
        except MediaError as error:
            return error.detail
        finally:
            reader.close()
        return None

    yield read


def test_readers_keep_to_it(tmp_path: Path, reads: Callable[[Path, Path | None], str | None]):
    (tmp_path / "outside").mkdir()
    (tmp_path / "source").mkdir()
    movie(tmp_path / "outside" / "a.mp4")
    movie(tmp_path / "source" / "a.mp4")
    (tmp_path / "source" / "link").symlink_to("../outside")
    assert reads(tmp_path / "source" / "a.mp4", tmp_path / "source") is None
    assert "symbolic link" in (reads(tmp_path / "source" / "link" / "a.mp4", tmp_path / "source") or "")
    assert reads(tmp_path / "source" / "link" / "a.mp4", None) is None, "a path that the user named whole"
