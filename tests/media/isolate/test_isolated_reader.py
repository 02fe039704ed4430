"""Decoding in a process of its own: a crash or a hang is a typed error and the next file is read."""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from media_clips import movie

from mmattn.errors import MediaError, MmattnError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.isolate.wire import receive, unpack
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.read.windows.layout import Windows


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(deadline_s=10.0) as reader:
        yield reader


def test_the_clip_is_the_one_read_in_process(reader: IsolatedReader, good: Path):
    there = reader.read(good, Request(fps=10, size=(16, 16), start=0.2))
    here = read_clip(good, fps=10, size=(16, 16), start=0.2)
    assert torch.equal(there.frames, here.frames) and torch.equal(there.waveform, here.waveform)
    assert torch.equal(there.frame_times, here.frame_times)
    assert (there.sample_rate, there.audio_start, there.span, there.issues, there.source) == (
        here.sample_rate,
        here.audio_start,
        here.span,
        here.issues,
        here.source,
    )


def test_errors_cross_the_border_whole(reader: IsolatedReader, tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xff\n.mp4")
    path.write_bytes(b"no media")
    with pytest.raises(MediaError) as caught:
        reader.read(path, Request(frames=1))
    assert (caught.value.path, caught.value.reason) == (os.fspath(path), "not_media")


def test_closing_does_not_wait_for_a_process_that_was_forked_meanwhile(good: Path):
    """Such as a loader's worker, which lives on with copies of the sockets."""
    reader = IsolatedReader()
    reader.read(good, Request(frames=1))
    forked = os.fork()
    if not forked:
        time.sleep(60)
        os._exit(0)
    closing = threading.Thread(target=reader.close, daemon=True)
    closing.start()
    closing.join(20)
    closed = not closing.is_alive()
    os.kill(forked, signal.SIGKILL)
    os.waitpid(forked, 0)
    assert closed


def test_a_hang_is_killed_at_the_deadline(good: Path):
    with IsolatedReader(deadline_s=3.0) as reader:
        hung = reader.worker_pid
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(MediaError, match="timeout"):
            reader.read(good, Request(frames=1))
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)
        assert reader.read(good, Request(frames=1)).frames is not None


def test_memory_beyond_the_limit_is_too_large(good: Path):
    with IsolatedReader(memory_bytes=64 << 20) as reader, pytest.raises(MediaError, match="too_large"):
        reader.read(good, Request(fps=25, size=(2000, 2000)))


def test_closing_ends_the_worker_and_a_copy_starts_its_own(good: Path):
    reader = IsolatedReader()
    worker = reader.worker_pid
    copy = pickle.loads(pickle.dumps(reader))
    reader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert copy._child is None


def test_the_worker_ends_when_its_owner_is_killed(good: Path):
    script = "import sys, os, signal; from mmattn.media.isolate.reader import IsolatedReader; r = IsolatedReader()\n"
    script += "print(r.worker_pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    worker, until = int(done.stdout), time.monotonic() + 5
    while time.monotonic() < until and Path(f"/proc/{worker}").exists():
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()


def test_a_script_without_a_main_guard_can_use_it(good: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom mmattn.media import IsolatedReader, Request\n"
        "with IsolatedReader() as reader:\n    print(len(reader.read(sys.argv[1], Request(frames=3)).frames))\n"
    )
    done = subprocess.run([sys.executable, str(script), str(good)], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n" and done.stderr == ""


def test_an_exception_while_waiting_does_not_leave_the_answer_for_the_next_file(
    reader: IsolatedReader, good: Path, tmp_path: Path
):
    def give_up(*_) -> None:
        raise KeyboardInterrupt

    other = movie(tmp_path / "b.mp4", count=3)
    os.kill(reader.worker_pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            reader.read(good, Request(fps=25))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(reader.read(other, Request(fps=25)).frames) == 3


WINDOWS = Windows(0.4, 0.3, Request(fps=25, size=(16, 16)))


def test_windows_are_those_read_in_process(reader: IsolatedReader, good: Path):
    there = list(reader.windows(good, WINDOWS))
    here = list(iter_windows(good, 0.4, 0.3, fps=25, size=(16, 16)))
    assert len(there) == len(here) == 3
    for one, other in zip(there, here, strict=True):
        assert torch.equal(one.frames, other.frames) and torch.equal(one.waveform, other.waveform)
        assert (one.span, one.source, one.issues) == (other.span, other.source, other.issues)


def test_windows_may_be_left_and_the_reader_goes_on(reader: IsolatedReader, good: Path):
    windows = reader.windows(good, WINDOWS)
    next(windows)
    with pytest.raises(MmattnError, match="open iterator of windows"):
        reader.read(good, Request(frames=1))
    windows.close()
    assert len(reader.read(good, Request(frames=2)).frames) == 2
    assert len(list(reader.windows(good.read_bytes(), WINDOWS))) == 3


def test_the_deadline_is_for_each_window(reader: IsolatedReader, good: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reader, "_deadline_s", 3.0)
    windows, started = reader.windows(good, Windows(0.1, 0.1, Request(fps=25))), time.monotonic()
    for _ in range(7):
        assert next(windows).frames is not None
        time.sleep(0.5)
    os.kill(reader.worker_pid, signal.SIGSTOP)
    assert time.monotonic() - started > 3.0
    with pytest.raises(MediaError, match="timeout"):
        list(windows)
    assert len(list(reader.windows(good, WINDOWS))) == 3


@pytest.mark.parametrize(
    "head",
    [{}, {"shapes": {"frames": [9, 9]}}, {"shapes": {"x": [1]}}, {"shapes": []}, {"shapes": {"frames": ["a"]}}],
    ids=str,
)
def test_an_answer_that_makes_no_sense_costs_one_file(head: dict):
    """What a worker that a hostile file took over might send."""
    with pytest.raises(ValueError):
        unpack(head, bytearray(8), "a.mp4")


def test_a_message_that_is_none_is_no_message():
    for data in (
        b"x" * 4,
        struct.pack("<QQ", 3, 0) + b"{x}",
        struct.pack("<QQ", 2, 1 << 60) + b"{}",
        struct.pack("<QQ", 2, 0) + b"[]",
    ):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            assert receive(ours, 1 << 20, 5.0) is None
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        receive(ours, 1 << 20, 0.05)


def test_the_decoding_process_does_without_torch():
    """Which would take seconds to import and hundreds of megabytes in every process."""
    script = "import sys, mmattn.media.isolate.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
