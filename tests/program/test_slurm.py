"""engine=slurm on a real Slurm, with its real signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import missing, one_node

from mmattn.inference.jobs.job import Job

pytestmark = pytest.mark.usefixtures("warm")

needs_slurm = pytest.mark.skipif(missing() is not None, reason=missing() or "")
SMALL = ["engine=slurm", "engine.cpus=1", "engine.memory_gb=2", "engine.minutes=10", "engine.workers=1", "decoders=1"]


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    with one_node() as environment:
        yield environment


@pytest.fixture(scope="module")
def videos(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    clips = sorted(path for path in shapes.rglob("*.mp4"))
    for k in range(48):
        shutil.copy(clips[k % len(clips)], folder / f"v{k:02d}.mp4")
    return folder


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


class Predicting:
    """`mmattn predict` beside the test."""

    def __init__(self, environment: dict[str, str], run: Path, source: Path, out: Path, *more: str) -> None:
        command = [sys.executable, "-m", "mmattn", "predict", f"run={run}", f"source={source}", f"out={out}"]
        self.job = Job(out.with_name(f"{out.name}.job"))
        self.process = subprocess.Popen(
            [*command, "batch_size=1", *more], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
        )
        STARTED.append(self.process)

    def until(self, true: Callable[[], object]) -> None:
        limit = time.monotonic() + 300
        while not true():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < limit
            time.sleep(0.1)

    @property
    def answered(self) -> int:
        return sum(map(self.job.done_count, self.job.shards()))

    def ended(self, code: int) -> str:
        said = self.process.communicate(timeout=500)[1]
        assert self.process.returncode == code, said
        return said


def tasks_of(environment: dict[str, str], state: str = "RUNNING") -> list[str]:
    command = ["squeue", "--noheader", f"--states={state}", "--format=%A", "--name=mmattn-predict", "--array"]
    found = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return found.stdout.split()


def ids(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in out.read_text().splitlines()]


@needs_slurm
def test_tasks_of_a_cluster_answer_as_processes_here_do(slurm, trained: Path, videos: Path, tmp_path: Path):
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    Predicting({}, trained, videos, here, "engine.workers=1").ended(0)
    said = Predicting(slurm, trained, videos, there, *SMALL, "engine.tasks=2", "shard_files=8").ended(0)
    assert there.read_bytes() == here.read_bytes()
    assert "Traceback" not in said and all(line.startswith("predicting") for line in said.splitlines()), said


@needs_slurm
def test_sigterm_does_not_end_a_task_and_its_processes(slurm, trained: Path, videos: Path, tmp_path: Path):
    """Slurm sends it long before it ends a task, and to tasks that it will not end; what comes next tells."""
    out = tmp_path / "o.jsonl"
    with_tasks = Predicting(slurm, trained, videos, out, *SMALL, "engine.tasks=1", "shard_files=4")
    with_tasks.until(lambda: with_tasks.answered > 4)
    for task in tasks_of(slurm):
        environment = {**os.environ, **slurm}
        subprocess.run(["scancel", "--signal=TERM", "--full", task], env=environment, check=True)
    with_tasks.ended(0)
    assert ids(out) == [f"v{k:02d}.mp4" for k in range(48)]
    assert all(json.loads(line)["status"] == "ok" for line in out.read_text().splitlines())


@needs_slurm
def test_a_task_that_is_cancelled_is_replaced(slurm, trained: Path, videos: Path, tmp_path: Path):
    out = tmp_path / "o.jsonl"
    with_tasks = Predicting(slurm, trained, videos, out, *SMALL, "engine.tasks=2", "shard_files=4")
    with_tasks.until(lambda: with_tasks.answered > 4 and tasks_of(slurm))
    subprocess.run(["scancel", tasks_of(slurm)[0]], env={**os.environ, **slurm}, check=True)
    with_tasks.ended(0)
    assert ids(out) == [f"v{k:02d}.mp4" for k in range(48)]


@needs_slurm
@pytest.mark.slow  # Slurm lets a task wait two minutes before it starts again
def test_a_preempted_task_goes_back_into_the_queue(slurm, trained: Path, videos: Path, tmp_path: Path):
    out = tmp_path / "o.jsonl"
    with_tasks = Predicting(slurm, trained, videos, out, *SMALL, "engine.tasks=1", "shard_files=4")
    with_tasks.until(lambda: with_tasks.answered > 4)
    (task,) = tasks_of(slurm)
    subprocess.run(["scancel", "--signal=USR2", "--full", task], env={**os.environ, **slurm}, check=True)
    with_tasks.until(lambda: tasks_of(slurm, "PENDING") == [task])
    with_tasks.ended(0)
    assert ids(out) == [f"v{k:02d}.mp4" for k in range(48)]


@needs_slurm
def test_a_driver_beside_the_tasks_of_one_that_was_killed(slurm, trained: Path, videos: Path, tmp_path: Path):
    """The tasks go on; the next command shares the work with them, and nothing is answered twice or lost."""
    out = tmp_path / "o.jsonl"
    options = ["shard_files=2"]
    first = Predicting(slurm, trained, videos, out, *SMALL, "engine.tasks=1", *options)
    first.until(lambda: first.answered > 2)
    first.process.kill()
    first.process.wait()
    Predicting({}, trained, videos, out, "engine.workers=1", *options).ended(0)
    assert ids(out) == [f"v{k:02d}.mp4" for k in range(48)]
    assert sorted(path.name for path in (first.job.root / "part").glob("*")) == []


@needs_slurm
def test_tasks_that_can_never_start_are_explained(slurm, trained: Path, videos: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "o.jsonl"
    asked = ["engine=slurm", "engine.tasks=1", "engine.cpus=1", "engine.memory_gb=2", "engine.minutes=10"]
    environment = {**os.environ, **slurm}
    subprocess.run(["scontrol", "update", "PartitionName=main", "State=DOWN"], env=environment, check=True)
    try:
        waiting = Predicting(slurm, trained, videos, out, *asked)
        assert waiting.process.stderr is not None
        for line in waiting.process.stderr:
            if "PartitionDown" in line:
                break
        assert "tasks wait for PartitionDown" in line and waiting.process.poll() is None
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=main", "State=UP"], env=environment, check=True)
    waiting.process.send_signal(signal.SIGINT)
    waiting.process.communicate(timeout=60)
    for task in [*tasks_of(slurm), *tasks_of(slurm, "PENDING")]:
        subprocess.run(["scancel", task], env=environment, check=True)


def test_sigterm_to_a_task_on_this_machine(trained: Path, videos: Path, tmp_path: Path):
    """engine.cluster=local: as of Slurm, the task goes on."""
    out = tmp_path / "o.jsonl"
    local = [*SMALL, "engine.cluster=local", "engine.tasks=1", "shard_files=4"]
    with_tasks = Predicting({}, trained, videos, out, *local)
    with_tasks.until(lambda: with_tasks.answered > 4)
    for pid in children(with_tasks.process.pid):  # the task and what starts it
        if "submitit" in command_line(pid):
            os.kill(pid, signal.SIGTERM)
    with_tasks.ended(0)
    assert ids(out) == [f"v{k:02d}.mp4" for k in range(48)]


def test_slurm_that_does_not_answer_is_one_line(trained: Path, videos: Path, tmp_path: Path):
    """sbatch is installed, and no controller runs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun", "squeue"):
        (programs / name).write_text(
            "#!/bin/sh\necho 'sbatch: error: Unable to contact slurm controller' >&2\nexit 1\n"
        )
        (programs / name).chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    said = Predicting(path, trained, videos, tmp_path / "o.jsonl", "engine=slurm").ended(2)
    assert re.fullmatch(r"mmattn: engine=slurm: .*Unable to contact slurm controller\n", said)
    assert not (tmp_path / "o.jsonl.job").exists()


def children(pid: int) -> list[int]:
    """Its children and theirs."""
    found = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return found + [each for child in found for each in children(child)]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
