"""Jobs of small files for tests, and the worker process that answers them."""

from __future__ import annotations

import sys
from pathlib import Path

import job_worker

from mmattn.inference.engines.local_driver import run_local
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source

WORKER = str(Path(job_worker.__file__))
DRIVER = """
import sys
from pathlib import Path
from mmattn.inference.commands.predict import stopping_on_sigterm
from mmattn.inference.engines.local_driver import run_local
from mmattn.inference.jobs.job import Job
job = Job(Path(sys.argv[1]))
with stopping_on_sigterm():
    run_local(job, job.open_shards(), [sys.executable, sys.argv[2], sys.argv[1]], ["cpu", "cpu"], 1)
"""


def made(tmp_path: Path, names: list[str], shard_files: int = 16) -> Job:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True, parents=True)
    for name in names:
        if not (source / name).exists():
            (source / name).write_text(name)
    job = Job(tmp_path / "job")
    job.update(list_source(str(source)).entries, shard_files)
    return job


def run(job: Job, devices: tuple[str, ...] = ("cpu", "cpu")) -> None:
    run_local(job, job.open_shards(), [sys.executable, WORKER, str(job.root)], devices, 1)


def names(count: int, **special: str) -> list[str]:
    """`special`: what n12 and so on are called instead."""
    return [special.get(f"n{i}", f"clip{i:04d}.mp4") for i in range(count)]


def check_whole(job: Job, files: list[str]) -> dict[str, dict]:
    """Every file has one answer, in the order of the listing, and nothing is left over."""
    records = list(job.records())
    assert [record["id"] for record in records] == sorted(files)
    assert sorted(path.name for path in job.root.iterdir() if any(path.iterdir())) == ["done", "files"]
    for record in records:
        assert record.get("text", record["id"]) == record["id"]
    return {record["id"]: record for record in records}


def listed(tmp_path: Path) -> list[Entry]:
    return list_source(str(tmp_path / "source")).entries
