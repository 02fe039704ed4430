"""launcher=slurm on a real Slurm: warned, requeued, out of time, its node lost; it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from slurm_cluster import Cluster, cluster, missing
from test_train_stops import assert_same

from mmattn.cli.main import main
from mmattn.training.checkpoints.atomic import LAST

pytestmark = [pytest.mark.skipif(missing() is not None, reason=missing() or ""), pytest.mark.usefixtures("warm")]
OPTIONS = ["fusion=cross", "logger=none", "trainer.epochs=3", "trainer.log_every=1", "data.batch_size=4", "dropout=0.1"]
SLURM = ["launcher=slurm", "launcher.cpus=1", "launcher.memory_gb=2", "launcher.minutes=10"]
LOOPBACK = "launcher.setup=['export MASTER_ADDR=127.0.0.1']"  # names of nodes that are services of one machine
SLOWLY = Path(__file__).with_name("slowly")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "slurm"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(nodes=2) as made:
        yield made


@pytest.fixture
def train(slurm: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Callable[..., str]]:
    """`train("launcher=slurm", ...)`: what the command wrote, which ends with `code`."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def command(*more: str, code: int = 0) -> str:
        found = main(["train", *more])
        said = capsys.readouterr().err
        assert found == code, said
        return said

    yield command
    if slurm.jobs():
        slurm.tell("scancel", "--user=root")
        slurm.until(lambda: not slurm.jobs())


@pytest.fixture(scope="module")
def whole(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`whole(processes)`: a run that nothing disturbed."""

    @cache
    def made(processes: int) -> Path:
        run = tmp_path_factory.mktemp("whole") / "run"
        program = [sys.executable, "-m", "mmattn", "train", *small, *OPTIONS, f"trainer.devices={processes}"]
        subprocess.run([*program, f"run={run}"], check=True, capture_output=True, timeout=300)
        return run

    return made


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`slowly(s)`: each step of the jobs takes so much longer, so that something can happen during it."""

    def make(seconds: float) -> None:
        monkeypatch.setenv("PYTHONPATH", f"{SLOWLY}:{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setenv("MMATTN_SLOW_S", str(seconds))

    return make


def steps(run: Path) -> int:
    file = run / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    return max((json.loads(line)["step"] for line in text.splitlines() if line.endswith("}")), default=0)


def requeued(slurm: Cluster, job: str) -> None:
    """Slurm has taken the job back; it would wait for two minutes before it starts it again."""
    slurm.until(lambda: slurm.jobs().get(job) == "PENDING")
    slurm.tell("scontrol", "update", f"JobId={job}", "StartTime=now")


def ended(slurm: Cluster, run: Path) -> str:
    """What the job wrote, when it is in no queue any more."""
    slurm.until(lambda: not slurm.jobs())
    said = "".join(path.read_text() for path in sorted(run.glob("slurm-*.out")))
    assert (run / "finished.json").is_file(), said
    return said


def test_two_nodes_train_as_two_processes_here(slurm: Cluster, train: Any, small: Any, whole: Any, tmp_path: Path):
    run = tmp_path / "run"
    train(*small, *OPTIONS, *SLURM, "launcher.nodes=2", "launcher.srun={label: true}", LOOPBACK, f"run={run}")
    ended(slurm, run)
    assert_same(whole(2), run)


def test_warned_it_saves_and_goes_on_after_the_requeue(
    slurm: Cluster, train: Any, small: Any, whole: Any, tmp_path: Path, slowly: Any
):
    run = tmp_path / "run"
    slowly(1)
    train(*small, *OPTIONS, *SLURM, "trainer.devices=2", LOOPBACK, f"run={run}")
    slurm.until(lambda: steps(run) >= 2)
    (job,) = slurm.jobs()
    slurm.tell("scancel", "--signal=USR1", job)
    requeued(slurm, job)
    assert 2 <= torch.load(run / LAST, weights_only=True)["global_step"] < 12
    assert "stopping: saving step" in ended(slurm, run)
    assert_same(whole(2), run)


@pytest.mark.slow
def test_out_of_time_it_saves_and_goes_on(
    slurm: Cluster, train: Any, small: Any, whole: Any, tmp_path: Path, slowly: Any
):
    run = tmp_path / "run"
    slowly(10)
    train(*small, *OPTIONS, *SLURM, "launcher.minutes=3", "launcher.warn_s=60", f"run={run}")
    assert "stopping: saving step" in ended(slurm, run)
    assert_same(whole(1), run)


@pytest.mark.parametrize("how", ["scontrol requeue", pytest.param("its node is lost", marks=pytest.mark.slow)])
def test_started_anew_by_slurm_it_goes_on_from_the_last_checkpoint(
    how: str, slurm: Cluster, train: Any, small: Any, whole: Any, tmp_path: Path, slowly: Any
):
    """Where a node's service dies the processes live on: they stop when the new ones have taken the run over."""
    run = tmp_path / "run"
    slowly(2)
    train(*small, *OPTIONS, *SLURM, f"run={run}")
    slurm.until(lambda: steps(run) >= 5)
    (job,) = slurm.jobs()
    node = slurm.tell("squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()
    if how == "scontrol requeue":
        slurm.tell("scontrol", "requeue", job)
    else:
        slurm.stop_service(node, signal.SIGKILL)
    requeued(slurm, job)
    ended(slurm, run)
    if how != "scontrol requeue":
        slurm.start_node(node)
    assert_same(whole(1), run)


def test_requeued_before_its_first_checkpoint_the_script_goes_on(
    slurm: Cluster, train: Any, small: Any, whole: Any, tmp_path: Path, slowly: Any
):
    run, output = tmp_path / "run", tmp_path / "job.out"
    slowly(1)
    options = ["--gpus-per-node=0", "--cpus-per-task=1", "--mem=2G", f"--output={output}"]
    job = slurm.tell("sbatch", "--parsable", *options, f"{SCRIPTS}/train.sbatch", str(run), *small, *OPTIONS).strip()
    slurm.until(lambda: steps(run) >= 1)
    assert not (run / LAST).exists()
    slurm.tell("scontrol", "requeue", job)
    requeued(slurm, job)
    slurm.until(lambda: not slurm.jobs())
    assert (run / "finished.json").is_file(), output.read_text()
    assert_same(whole(1), run)


def test_points_in_the_queue_are_not_given_again_and_their_lists_stay(
    slurm: Cluster, train: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The cluster's arrays have three tasks at most, so five points are two arrays, one after the other."""
    monkeypatch.chdir(tmp_path)
    slurm.tell("scontrol", "update", "PartitionName=main", "State=DOWN")
    sweep = ["-m", *small, *OPTIONS, *SLURM, "sweep=mine"]
    folder = Path("runs/sweeps/mine")
    try:
        assert "wait for PartitionDown (squeue)" in train(*sweep, "seed=1,2")
        (first,) = folder.glob("points-*.txt")
        before = first.read_bytes()
        said = train(*sweep, "seed=0,1,2,3,4,5")
        assert "2 of 6 runs are in Slurm's queue already" in said and "of 3 runs" in said and "of 1 run;" in said
        assert first.read_bytes() == before
        listed = [Path(line).name for path in folder.glob("points-*.txt") for line in path.read_text().splitlines()]
        assert sorted(listed) == [f"seed={k}" for k in range(6)]
        after = slurm.tell("squeue", "--noheader", "--array", "--format=%E").split()
        assert len(after) == 6 and sum("afterany" in text for text in after) == 1
        assert len(said.splitlines()) < 12
        assert "Slurm job" in train(f"resume={folder / 'seed=1'}", code=2)
    finally:
        slurm.tell("scontrol", "update", "PartitionName=main", "State=UP")


def test_a_job_that_can_never_start_is_explained(slurm: Cluster, train: Any, small: Any, tmp_path: Path):
    asked = ["launcher.partition=short", "launcher.minutes=60", f"run={tmp_path / 'run'}"]
    (line,) = [line for line in train(*small, *OPTIONS, *SLURM, *asked).splitlines() if "squeue" in line]
    assert "wait for Partition" in line and "scancel" in line
