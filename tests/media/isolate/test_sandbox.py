"""A decoder that a file took over can do nothing with the system, and decodes every kind of file all the same."""

import ctypes
import faulthandler
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from media_clips import movie, tone

from mmattn.data.load.reader import ClipReader
from mmattn.media.isolate import landlock, sandbox, seccomp
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.write.bundle import read_bundle, times, write_bundle
from mmattn.media.write.video import write_video
from mmattn.types import ByteRange

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what Linux gives")
FILTERS = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no table of system calls")


def in_child(work: Callable[[], object]) -> int:
    """The wait status of a process that only does `work`; 0: it went well."""
    if not (child := os.fork()):
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


@FILTERS
def test_the_worker_is_refused_all_that_it_tries():
    with IsolatedReader() as reader:
        told = reader.sandbox()
    assert "seccomp" in told.layers and "no new privileges" in told.layers
    assert told.refused and all(told.refused.values()), told


def test_a_process_that_is_not_sealed_is_refused_nothing():
    """So that the list above means something."""

    def work() -> None:
        refused = sandbox.attempts()
        open_to_all = ("open a file", "write a file", "delete a file", "open a socket", "start a process",
                       "start a program", "signal its parent", "trace its parent")  # fmt: skip
        assert not any(refused[name] for name in open_to_all), refused

    assert in_child(work) == 0


@FILTERS
def test_by_the_filter_alone(tmp_path: Path):
    ours, theirs = socket.socketpair()
    file = tmp_path / "a"
    file.write_bytes(b"abc")

    def work() -> None:
        fd = os.open(file, os.O_RDWR)
        libc = ctypes.CDLL(None, use_errno=True)
        sandbox._prctl(sandbox._SET_NO_NEW_PRIVILEGES, 1)
        seccomp.apply()
        assert all(sandbox.attempts().values())
        for attempt in (
            file.stat, lambda: list(Path("/").iterdir()), Path("x").mkdir, lambda: file.chmod(0o777), file.unlink,
            os.pipe, lambda: os.memfd_create("x"), socket.socketpair, Path.cwd,
            lambda: theirs.connect(b"\0x"), lambda: os.ftruncate(fd, 0), lambda: os.kill(1, 0),
            lambda: os.setuid(12345), lambda: os.nice(1), lambda: os.umask(0),
            lambda: signal.pidfd_send_signal(fd, 0),
        ):  # fmt: skip
            assert denied(attempt)
        # io_uring, bpf, keyctl, process_vm_readv, userfaultfd, perf_event_open, mount, unshare, a call yet to come
        numbers = {
            "x86_64": (425, 321, 250, 310, 323, 298, 165, 272, 999),
            "aarch64": (425, 280, 219, 270, 282, 241, 40, 97, 999),
        }
        for number in numbers[platform.machine()]:
            assert libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1, number
        assert os.pread(fd, 3, 0) == b"abc" and os.fstat(fd).st_size == 3
        theirs.send(b"x")
        thread = threading.Thread(target=lambda: theirs.send(b"y"))
        thread.start()
        thread.join()

    assert in_child(work) == 0
    assert ours.recv(2, socket.MSG_WAITALL) == b"xy"
    ours.close(), theirs.close()


@FILTERS
def test_an_abort_is_still_one():
    def work() -> None:
        faulthandler.disable()
        sandbox.seal()
        os.abort()

    assert os.WTERMSIG(in_child(work)) == signal.SIGABRT


def test_by_landlock_alone(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")

    def work() -> None:
        fd = os.open(tmp_path / "a", os.O_RDONLY)
        sandbox._prctl(sandbox._SET_NO_NEW_PRIVILEGES, 1)
        try:
            landlock.apply()
        except OSError:
            os._exit(77)
        for attempt in (
            lambda: os.open(tmp_path / "a", os.O_RDONLY),
            lambda: os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT),
            (tmp_path / "a").unlink,
            lambda: list(tmp_path.iterdir()),
            lambda: os.execv(sys.executable, ["python"]),
        ):
            assert denied(attempt)
        assert os.read(fd, 3) == b"abc"

    status = in_child(work)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip("this kernel has no Landlock")
    assert status == 0


def test_by_the_network_namespace_alone():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            try:
                sandbox._leave_the_network()
            except OSError:
                os._exit(77)
            with socket.socket() as one, pytest.raises(OSError):
                one.connect(server.getsockname())

        status = in_child(work)
    if os.waitstatus_to_exitcode(status) == 77:
        pytest.skip("no network namespace without privileges here")
    assert status == 0


def test_an_older_kernel_loses_the_layer_and_not_the_decoding(monkeypatch: pytest.MonkeyPatch):
    def absent() -> None:
        raise OSError(38, "Function not implemented")

    layers = {name: (absent, holds) for name, (_, holds) in sandbox._LAYERS.items()}
    monkeypatch.setattr(sandbox, "_LAYERS", layers)
    assert sandbox.seal() == []


def test_no_module_is_loaded_by_the_first_file_that_needs_it(tmp_path: Path):
    """A worker could not: it opens no file."""
    movie(tmp_path / "a.mp4")
    write_video(tmp_path / "b.m4a", None, 25, tone(1.0))
    (tmp_path / "c.mp4").write_bytes(b"no media")
    (tmp_path / "d.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:3000])
    script = (
        "import sys; from pathlib import Path; from mmattn.media.isolate import worker as w\n"
        "w._load_all(); before = set(sys.modules); asked = {'limits': {}, 'deadline_s': 30.0}\n"
        "ask = {'times': None, 'fps': 5, 'size': (16, 16), 'fit': 'pad'}\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    for q in ({'survey': 'full'}, {'request': ask}, {'bundle': ask},\n"
        "              {'window_s': .4, 'hop_s': .3, 'request': ask}):\n"
        "        list(w._answers(asked | q, str(path)))\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"


def test_a_shard_is_decoded_where_it_can_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clip = ClipReader(isolated=False)(movie(tmp_path / "a.mp4"), Request(times=tuple(times(1.0, 10.0)), size=(32, 48)))
    data = write_bundle("a", clip, 10.0, "flac", 90, {})
    (tmp_path / "a.tar").write_bytes(b"x" * 512 + data)
    media, request = ByteRange(tmp_path / "a.tar", 512, len(data)), Request(fps=5, size=(16, 16))
    here = read_bundle(request, media)
    monkeypatch.setattr("mmattn.data.load.reader.read_bundle", None)  # in this process
    reader = ClipReader(bundles=True, threads=1)
    there = reader(media, request)
    reader.close()
    assert (there.frames == here.frames).all() and (there.waveform == here.waveform).all()
    assert (there.frame_times == here.frame_times).all()
    assert (there.span, there.duration, there.audio_start, there.source, there.issues) == (
        here.span, here.duration, here.audio_start, here.source, here.issues
    )  # fmt: skip
