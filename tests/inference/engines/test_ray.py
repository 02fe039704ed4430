"""engine=ray on a Ray of this machine: the same answers as the local engine's, whatever dies on the way."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import job_worker
import pytest

from mmattn.errors import MmattnError, UsageError
from mmattn.inference.engines.ray import RayEngine, _connected
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.jobs.shard import EntryProcessor

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(240)
ENGINE = RayEngine(address=None, actors=2, cpus=1, gpus=0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with _connected(None) as ray:
        for module in (job_worker, sys.modules[__name__]):  # which the actors could not import
            ray.cloudpickle.register_pickle_by_value(module)
        yield


@contextmanager
def load(job: Job, decoders: int, device: str) -> Iterator[EntryProcessor]:
    """As job_worker.py does it; the settings say how it goes wrong."""
    settings = job.settings()
    if settings.get("broken") == "usage":
        raise UsageError("no weights")
    if settings.get("broken") == "fault":
        raise ValueError("a fault\nof ours")
    if settings.get("broken") == "dying":
        os._exit(9)
    if settings.get("pids"):
        (Path(settings["pids"]) / str(os.getpid())).touch()
    yield job_worker.PROCESSOR


def made(tmp_path: Path, names: list[str], shard_files: int = 16, **settings: str) -> Job:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    for name in names:
        (source / name).write_text(name)
    job = Job(tmp_path / "job")
    job.update(list_source(str(source)).entries, shard_files)
    job.write_settings({"device": "auto", "decoders": 0, **settings})
    return job


def reasons(job: Job, files: list[str]) -> dict[str, str]:
    """Of what failed. Every file has one answer, in the order of the listing, and nothing is left over."""
    records = list(job.records())
    assert [record["id"] for record in records] == sorted(files)
    assert sorted(path.name for path in job.root.iterdir() if path.is_dir() and any(path.iterdir())) == [
        "done",
        "files",
    ]
    return {record["id"]: record["reason"] for record in records if record["status"] != "ok"}


def test_bad_entries_cost_themselves_and_dead_actors_are_replaced(cluster: None, tmp_path: Path):
    files = [f"clip{i:04d}.mp4" for i in range(60)]
    files[3], files[20], files[21], files[40] = "03poison.mp4", "20fault.mp4", "21bad.mp4", "40large.mp4"
    job = made(tmp_path, files)
    ENGINE.run(job, job.open_shards(), load)
    assert reasons(job, files) == {
        "03poison.mp4": "quarantined", "20fault.mp4": "crashed", "21bad.mp4": "not_media", "40large.mp4": "too_large",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in job.root.rglob("*")}
    assert job.open_shards() == []
    assert {path: path.stat().st_mtime_ns for path in job.root.rglob("*")} == before


def test_actors_killed_at_random_lose_nothing(cluster: None, tmp_path: Path):
    files = [f"clip{i:04d}slow.mp4" for i in range(240)]
    pids = tmp_path / "pids"
    pids.mkdir()
    job = made(tmp_path, files, 32, pids=str(pids))
    rng, killed = random.Random(0), set()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(rng.uniform(0.3, 0.8)) and len(killed) < 5:
            if living := [pid for pid in sorted(int(path.name) for path in pids.iterdir()) if pid not in killed]:
                killed.add(pid := rng.choice(living))
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ENGINE.run(job, job.open_shards(), load)
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 3
    assert reasons(job, files) == {}


@pytest.mark.parametrize(
    ("broken", "says", "code"), [("usage", "no weights", 2), ("fault", "ValueError: of ours", 1), ("dying", "ended", 1)]
)
def test_what_an_actor_cannot_begin_with_ends_the_job(broken, says, code, cluster, tmp_path: Path):
    job = made(tmp_path, ["a.mp4"], broken=broken)
    with pytest.raises(MmattnError, match=says) as caught:
        ENGINE.run(job, job.open_shards(), load)
    assert caught.value.exit_code == code


def test_what_a_cluster_has_no_room_for_is_refused(cluster: None, tmp_path: Path):
    job = made(tmp_path, ["a.mp4"])
    with pytest.raises(UsageError, match=r"Ray has \d+ CPUs and 0 GPUs"):
        RayEngine(address=None, actors=0, cpus=1, gpus=1).run(job, [0], load)
    job.write_settings({"device": "cuda", "decoders": 0})
    with pytest.raises(UsageError, match=r"needs engine\.gpus=1"):
        ENGINE.run(job, [0], load)
