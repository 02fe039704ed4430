"""The job files of scripts/slurm that tag, on a real Slurm; train.sbatch is in test_train_slurm.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Cluster, cluster, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "slurm"
SMALL = ["--gpus-per-node=0", "--cpus-per-task=1", "--mem=2G"]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def videos(shapes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    clips = sorted(shapes.rglob("*.mp4"))
    for k in range(24):
        shutil.copy(clips[k % len(clips)], folder / f"v{k:02d}.mp4")
    return folder


@pytest.fixture
def given(slurm: Cluster, trained: Path, videos: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`given("predict.sbatch", [sbatch's options], "engine.cpus=1", ...)`: the job's number."""

    def submit(script: str, options: list[str], *more: str) -> str:
        what = [f"run={trained}", f"source={videos}", f"out={tmp_path / 'o.jsonl'}", "batch_size=1", *more]
        command = ["sbatch", "--parsable", f"--output={tmp_path / 'job.out'}", *options, str(SCRIPTS / script), *what]
        return slurm.tell(*command).strip()

    yield submit
    if slurm.jobs():
        slurm.tell("scancel", "--user=root")
        slurm.until(lambda: not slurm.jobs())


def all_are_answered(slurm: Cluster, folder: Path) -> None:
    slurm.until(lambda: not slurm.jobs(), 500)
    said = (folder / "job.out").read_text()
    assert (folder / "o.jsonl").is_file(), said
    rows = [json.loads(line) for line in (folder / "o.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"v{k:02d}.mp4" for k in range(24)], said
    assert {row["status"] for row in rows} == {"ok"}


def test_predict_hands_out_an_array_from_within_a_job(slurm: Cluster, given: Any, tmp_path: Path) -> None:
    tasks = ["engine.tasks=1", "engine.cpus=1", "engine.gpus=0", "engine.memory_gb=2", "engine.workers=1", "decoders=1"]
    given("predict.sbatch", SMALL, *tasks, "shard_files=8")
    all_are_answered(slurm, tmp_path)


def test_predict_on_one_node_is_stopped_and_goes_on_after_the_requeue(
    slurm: Cluster, given: Any, tmp_path: Path
) -> None:
    job = given("predict_one_node.sbatch", SMALL, "engine.workers=1", "decoders=1", "shard_files=2")
    slurm.until(lambda: list((tmp_path / "o.jsonl.job").rglob("*.jsonl")))
    slurm.tell("scancel", "--batch", "--signal=TERM", job)
    slurm.until(lambda: slurm.jobs().get(job) == "PENDING")
    all_are_answered(slurm, tmp_path)
