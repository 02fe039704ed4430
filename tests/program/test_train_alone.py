"""A run directory has one trainer at a time, whoever starts it and however the one before ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmattn.config.compose import compose
from mmattn.errors import MmattnError
from mmattn.files import fresh_folder
from mmattn.process.lease import Lease
from mmattn.training.callbacks.taken_over import StopIfTaken
from mmattn.training.checkpoints.atomic import BEFORE, LAST, AtomicCheckpointIO
from mmattn.training.directory.create import create_run
from mmattn.training.directory.exclusive import LEASE

pytestmark = pytest.mark.usefixtures("warm")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[subprocess.Popen[str]] = []

    def start(*overrides: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mmattn", "train", *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, env={**os.environ, **env}, **pipes))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def lines_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def trains(process: subprocess.Popen[str], run: Path) -> None:
    """Wait until it has written more."""
    before = lines_of(run)
    while lines_of(run) < before + 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_the_second_trainer_is_refused_and_goes_on_when_the_first_was_killed(
    small: list[str], tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "r"
    first = start(*small, "trainer.epochs=400", "trainer.log_every=1", "logger=none", f"run={run}")
    trains(first, run)
    for second in (start(f"resume={run}"), start(*small, f"run={run}")):
        said = second.communicate()[1]
        assert second.returncode == 2, said
        assert f"another process trains here: process {first.pid} on {os.uname().nodename} since 20" in said
        assert len(said.splitlines()) == 1
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = start(f"resume={run}")
    trains(third, run)
    third.send_signal(signal.SIGTERM)
    said = third.communicate()[1]
    assert third.returncode == 143, said
    assert Lease(run / LEASE).holder() == "nobody"


def test_all_processes_of_a_run_share_it_and_a_requeued_job_takes_over(
    small: list[str], tmp_path: Path, start: Start
) -> None:
    run, job = tmp_path / "r", {"SLURM_JOB_ID": "5"}
    settings = [*small, "trainer.epochs=400", "trainer.log_every=1", "logger=none", "trainer.devices=2"]
    first = start(*settings, f"run={run}", **job)
    trains(first, run)
    assert start(f"resume={run}").wait() == 2
    requeued = start(f"resume={run}", **job, SLURM_RESTART_COUNT="1")
    assert first.wait() != 0, "whose job Slurm has started anew may not go on"
    trains(requeued, run)


def test_who_was_taken_over_while_it_stood_still_writes_nothing_more(
    small: list[str], tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "r"
    first = start(*small, "trainer.epochs=400", "trainer.log_every=1", "logger=none", f"run={run}")
    trains(first, run)
    first.send_signal(signal.SIGSTOP)
    (file,) = (run / LEASE).iterdir()
    with file.open("r+b") as opened:
        opened.write(b"free")  # as if it had stood still for long enough
    with Lease(run / LEASE) as lease:
        first.send_signal(signal.SIGCONT)
        said = first.communicate()[1]
        assert first.returncode == 1
        assert f"taken over by process {os.getpid()}" in said
        assert not lease.lost()


def test_a_checkpoint_that_is_ready_when_another_takes_over_is_not_put_in_place(tmp_path: Path) -> None:
    last = tmp_path / LAST
    with Lease(tmp_path / LEASE) as first:
        kept = AtomicCheckpointIO(check=StopIfTaken(tmp_path, first).check)
        kept.save_checkpoint({"step": 1}, last)
        kept.save_checkpoint({"step": 2}, last)
        (file,) = (tmp_path / LEASE).iterdir()
        file.write_bytes(b"free" + file.read_bytes()[4:])
        with Lease(tmp_path / LEASE) as second:
            assert not first.lost(), "its last beat was just now"
            with pytest.raises(MmattnError, match="taken over by process"):
                kept.save_checkpoint({"step": 3}, last)
            assert not second.lost()
    assert [kept.read(path)["step"] for path in (last, tmp_path / BEFORE)] == [2, 1]
    assert sorted(last.parent.iterdir()) == sorted([last, tmp_path / BEFORE])


def test_runs_that_are_named_by_the_time_have_each_their_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose("train", ["data.root=d"])
    names = [create_run(config) for _ in range(3)]
    assert len(set(names)) == 3
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: fresh_folder(tmp_path / "a" / "b"), range(32)))
    assert len(set(folders)) == 32 and tmp_path / "a" / "b-32" in folders
