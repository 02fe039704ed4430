"""The same weights however the processes were started: by mmattn, by torchrun's agents, by Slurm, sharing weights."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmattn.cli.main import main
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.launch.port import free_port

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = [
    "logger=none",
    "trainer.log_every=1",
    "trainer.epochs=1",
    "trainer.validate_every=1",
    "data.batch_size=8",
    "dropout=0.1",
]
SLURM = ["launcher=slurm", "launcher.cpus=1", "launcher.memory_gb=1", "launcher.minutes=5", "launcher.nodes=2"]
STOPS_LATE = [sys.executable, "-m", "mmattn", "train"]


@pytest.fixture(autouse=True)
def _threads_by_trainer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OMP_NUM_THREADS set Lightning's launcher would leave the number of threads alone."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture(scope="module")
def whole(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    command = [*STOPS_LATE, *small, *OPTIONS, "trainer.devices=2", f"run={run}"]  # in no process that did other work
    assert subprocess.run(command, capture_output=True, timeout=500).returncode == 0
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / LAST, weights_only=True)["state_dict"]


def assert_equal(one: Path, other: Path) -> None:
    """Bit for bit: the sum of two processes' gradients is the same in either order."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert not [name for name, weight in first.items() if not torch.equal(weight, second[name])]


def test_two_torchrun_agents_train_as_two_devices_do(small: list[str], whole: Path, tmp_path: Path) -> None:
    """Two nodes on loopback; the second joins by resuming the run that the first has made."""
    run = tmp_path / "run"
    endpoint = f"127.0.0.1:{free_port()}"
    nodes = ["launcher=torchrun", "launcher.nodes=2", f"launcher.endpoint={endpoint}", "launcher.join_s=100"]
    first = subprocess.Popen([*STOPS_LATE, *small, *OPTIONS, *nodes, f"run={run}"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not (run / "config.yaml").is_file() and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
    try:
        second = subprocess.run([*STOPS_LATE, f"resume={run}"], capture_output=True, text=True, timeout=250)
        _, errors = first.communicate(timeout=100)
    finally:
        first.kill()
    assert first.returncode == 0 and second.returncode == 0, errors + second.stderr
    assert f"mmattn train resume={run}" in errors
    assert_equal(whole, run)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that keeps what it is given, and an srun that starts two tasks on this machine as Slurm would."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/sbatch.log\necho "4242;cluster"\n')
    environment = "SLURM_JOB_ID=4242 SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1 SLURM_JOB_NAME=mmattn-run"
    lines = [
        "#!/bin/bash",
        "while [[ $1 == --* ]]; do shift; done",  # --kill-on-bad-exit=1 is what the last lines do
        f"export {environment} SLURM_NODELIST=127.0.0.1 SLURM_LOCALID=0 MASTER_PORT=$FAKE_PORT MASTER_ADDR=127.0.0.1",
        'SLURM_PROCID=1 SLURM_NODEID=1 "$@" &',
        'SLURM_PROCID=0 SLURM_NODEID=0 "$@" &',
        "for task in 1 2; do wait -n || { code=$?; kill $(jobs -p); exit $code; }; done",
    ]
    (tools / "srun").write_text("\n".join(lines))
    for tool in ("sbatch", "srun"):
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_PORT", str(free_port()))
    return tmp_path


def test_a_slurm_job_trains_as_two_devices_do(
    small: list[str], whole: Path, slurm: Path, capsys: pytest.CaptureFixture
) -> None:
    run = slurm / "run"
    chosen = ["launcher.partition=gpu", "launcher.options={account: lab}"]
    assert main(["train", *small, *OPTIONS, *SLURM, *chosen, f"run={run}"]) == 0
    assert "Slurm job 4242" in capsys.readouterr().err
    job = run / "job.sh"
    assert (slurm / "sbatch.log").read_text() == f"--parsable {job}\n"
    lines = job.read_text().splitlines()
    for option in (
        "nodes=2",
        "ntasks-per-node=1",
        "partition=gpu",
        "account=lab",
        "requeue",
        "signal=USR1@120",
        "mem=1024M",
    ):
        assert f"#SBATCH --{option}" in lines
    assert not any("gpus" in line for line in lines), "trainer.accelerator=cpu"
    result = subprocess.run(["bash", str(job)], capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    assert_equal(whole, run)


@pytest.mark.parametrize(
    "wrong",
    [
        "launcher.partition='a b'",
        "launcher.options={wrap: 'rm x; y'}",
        "launcher.nodes=0",
        "launcher.warn_s=300",  # of five minutes
        "trainer.devices=0",
    ],
)
def test_what_sbatch_could_misread_is_refused(
    wrong: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["train", *small, *OPTIONS, *SLURM, wrong, f"run={tmp_path / 'run'}"]) == 2
    assert wrong.split("=")[0].split(".")[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_slurm_the_job_file_is_there_and_the_command_is_said(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = tmp_path / "run"
    assert main(["train", *small, *OPTIONS, *SLURM, f"run={run}"]) == 2
    assert f"sbatch --parsable {run / 'job.sh'}" in capsys.readouterr().err and (run / "job.sh").is_file()


def test_options_that_need_whole_weights_are_refused(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["trainer.strategy=fsdp", "weight_average=ema", f"run={tmp_path / 'run'}"]
    assert main(["train", *small, *OPTIONS, *options]) == 2
    assert "weight_average" in capsys.readouterr().err
