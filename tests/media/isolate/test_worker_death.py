"""Decoders die, of a file or of something else, and are cancelled: only a file that two have died on is `crashed`."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch
from media_clips import movie

from mmattn.data.load.reader import ClipReader
from mmattn.errors import MediaError, MmattnError
from mmattn.media.isolate.cancel import Cancellation, Cancelled
from mmattn.media.isolate.child import Child
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.read.windows.layout import Windows

ONE = Request(frames=1)
WINDOWS = Windows(0.4, 0.3, Request(fps=25, size=(16, 16)))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("good") / "a.mp4")


@pytest.fixture
def reader() -> Iterator[IsolatedReader]:
    with IsolatedReader(deadline_s=30.0) as reader:
        yield reader


def gone(pid: int) -> bool:
    """Dead, whether or not its nursery has looked at it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, how)
    while not gone(pid):
        time.sleep(0.001)


def at_each_message(monkeypatch: pytest.MonkeyPatch, act: Callable[[Child, int], None]) -> None:
    """`act(child, k)` once message k, counted over all workers, has come in."""
    plain, count = Child.receive, iter(range(10**6))

    def receive(child: Child, at_most: int, within_s: float):
        message = plain(child, at_most, within_s)
        act(child, next(count))
        return message

    monkeypatch.setattr(Child, "receive", receive)


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_death_between_files_costs_nothing(reader: IsolatedReader, good: Path, how: signal.Signals):
    for _ in range(3):
        os.kill(reader.worker_pid, how)  # still dying, perhaps, when it is asked
        assert reader.read(good, ONE).frames is not None
        kill(reader.worker_pid, how)
        assert reader.read(good, ONE).frames is not None


def test_the_nursery_may_die_too(reader: IsolatedReader, good: Path):
    worker = reader.worker_pid
    nursery = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(nursery, signal.SIGKILL)
    assert reader.read(good, ONE).frames is not None
    until = time.monotonic() + 60
    while not gone(worker) and time.monotonic() < until:
        time.sleep(0.01)
    assert gone(worker), "the worker outlived the nursery that would have ended it"


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_file_is_crashed_when_two_workers_have_died_on_it(
    reader: IsolatedReader, good: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    deadly, pids = [True, False], []

    def act(child: Child, number: int) -> None:
        if deadly and deadly.pop(0):
            pids.append(child.pid)
            kill(child.pid, how)  # it has just said that it is at work

    big = Request(fps=25, size=(2000, 2000))  # more than fits a socket: it cannot have answered yet
    at_each_message(monkeypatch, act)
    assert reader.read(good, big).frames is not None
    deadly[:] = [True, False, True]  # of the three messages the second is the first's end
    with pytest.raises(MediaError, match=f"crashed .*{how.name}"):
        reader.read(good, big)
    assert len(set(pids)) == 3
    assert reader.read(good, big).frames is not None


@pytest.mark.parametrize("number", range(5))
def test_windows_go_on_where_a_worker_died(
    reader: IsolatedReader, good: Path, number: int, monkeypatch: pytest.MonkeyPatch
):
    at_each_message(monkeypatch, lambda child, k: kill(child.pid) if k == number else None)
    there = list(reader.windows(good, WINDOWS))
    here = list(iter_windows(good, 0.4, 0.3, fps=25, size=(16, 16)))
    assert len(there) == len(here) == 3
    for one, other in zip(there, here, strict=True):
        assert one.span == other.span and torch.equal(one.frames, other.frames)
        assert torch.equal(one.waveform, other.waveform)


@pytest.mark.parametrize(("deaths", "answered"), [(2, True), (9, True), (10, False)])
def test_a_worker_that_has_not_begun_says_nothing_of_the_file(
    reader: IsolatedReader, good: Path, deaths: int, answered: bool, monkeypatch: pytest.MonkeyPatch
):
    plain, left = Child.send, [deaths]

    def send(child: Child, *question) -> None:
        if left[0]:
            left[0] -= 1
            kill(child.pid)
        plain(child, *question)

    monkeypatch.setattr(Child, "send", send)
    if answered:
        assert reader.read(good, ONE).frames is not None
    else:
        with pytest.raises(MmattnError, match="die during their start"):
            reader.read(good, ONE)
        assert reader.read(good, ONE).frames is not None


def test_cancelling_between_reads_leaves_the_decoder_alone(reader: IsolatedReader, good: Path):
    reader.read(good, ONE)
    before = reader.worker_pid
    reader.interrupt()
    assert reader.worker_pid == before and not gone(before)
    reader.read(good, ONE)
    assert reader.worker_pid == before


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("how", ["interrupt", "cancel"])
def test_a_read_that_is_cancelled_at_any_message_harms_no_other(
    reader: IsolatedReader, good: Path, number: int, how: str, monkeypatch: pytest.MonkeyPatch
):
    reader.cancellation = mine = Cancellation()

    def cancel() -> None:
        reader.interrupt() if how == "interrupt" else mine.cancel()

    def act(child: Child, k: int) -> None:
        if k == number:
            other = threading.Thread(target=cancel)
            other.start()
            other.join()

    at_each_message(monkeypatch, act)
    if number == 0:
        big = Request(fps=25, size=(2000, 2000))  # more than fits a socket: not yet answered
        with pytest.raises(Cancelled):
            reader.read(good, big)
    else:
        assert reader.read(good, Request(fps=25)).frames is not None, "it had been answered"
    if how == "cancel":
        with pytest.raises(Cancelled):
            reader.read(good, ONE)
        reader.cancellation = Cancellation()
    for _ in range(2):
        assert reader.read(good, ONE).frames is not None


def test_a_read_cancelled_while_its_worker_hangs_ends_at_once(reader: IsolatedReader, good: Path):
    os.kill(reader.worker_pid, signal.SIGSTOP)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            reader.read(good, ONE)
        except BaseException as error:
            ended.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    while reading.is_alive():
        reader.interrupt()
        reading.join(0.01)
    assert [type(error) for error in ended] == [Cancelled]
    assert reader.read(good, ONE).frames is not None


@pytest.mark.parametrize("after", [0, 1, 5])
def test_leaving_a_map_ends_its_own_reads_and_no_others(good: Path, after: int):
    reader = ClipReader(threads=2)
    files = [good] * 12
    try:
        others = reader.map(lambda path: reader(path, Request(fps=25)).frames, files)
        next(others)
        for _ in range(5):
            shown = reader.map(lambda path: reader(path, ONE).frames, files)
            with pytest.raises(RuntimeError, match="out of memory"):
                for number, _ in enumerate(shown):
                    if number == after:
                        raise RuntimeError("out of memory")  # the model's
            shown.close()
        assert sum(frames is not None for frames in others) == len(files) - 1
        assert sum(frames is not None for frames in reader.map(lambda path: reader(path, ONE).frames, files)) == 12
    finally:
        reader.close()


def test_a_closed_reader_ends_what_its_threads_read(good: Path):
    """Also between the reads of one item."""
    reader, begun = ClipReader(threads=2), threading.Event()

    def forever(path: Path) -> None:
        while True:
            reader(path, ONE)
            begun.set()

    def wait() -> None:
        with pytest.raises((Cancelled, CancelledError)):
            next(reader.map(forever, [good] * 8))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(60)
    reader.close()
    waiting.join()
    assert reader(good, ONE).frames is not None
    reader.close()
