"""Stopped anywhere and gone on with: two processes, other loader processes, damaged and foreign checkpoints, Slurm."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.training.checkpoints.atomic import BEFORE, LAST, damage, newest_whole
from mmattn.training.directory.create import create_run

pytestmark = pytest.mark.usefixtures("warm")

STRUCK = str(Path(__file__).with_name("struck_worker.py"))
OPTIONS = ["logger=none", "trainer.epochs=2", "trainer.validate_every=2", "data.batch_size=4", "dropout=0.1"]


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch):
    """`struck(step, rank, signal)`: the workers of the next run are struck so."""
    start = subprocess.Popen

    def strike(step: int, rank: str, number: int) -> None:
        monkeypatch.setenv("STRIKE", f"{step},{rank},{int(number)}")

        def start_ours(command: list[str], **settings: Any) -> subprocess.Popen:
            swapped = [command[0], STRUCK, command[-1]] if "mmattn.training.worker" in command else command
            return start(swapped, **settings)

        monkeypatch.setattr(subprocess, "Popen", start_ours)

    yield strike
    monkeypatch.undo()


@pytest.fixture(scope="module")
def whole(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbed; 4 steps an epoch."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", *small, *OPTIONS, "trainer.devices=2", f"run={run}"]) == 0
    return run


def saved(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same(one: Path, other: Path) -> None:
    first, second = saved(one / LAST), saved(other / LAST)
    assert first["global_step"] == second["global_step"]
    for name, weight in first["state_dict"].items():
        assert torch.equal(weight, second["state_dict"][name]), name
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (first, second)]
    assert all(torch.equal(states[0][k][name], states[1][k][name]) for k in states[0] for name in states[0][k])


@pytest.mark.parametrize("rank", [pytest.param("0", marks=pytest.mark.slow), "1", "all"])
def test_two_processes_stopped_in_mid_epoch_go_on_bit_for_bit(
    rank: str, small: list[str], whole: Path, tmp_path: Path, struck: Any
) -> None:
    """Whichever rank gets the signal; then with loader processes, which the first half did not have."""
    run = tmp_path / "run"
    struck(2, rank, signal.SIGTERM)
    assert main(["train", *small, *OPTIONS, "trainer.devices=2", f"run={run}"]) == 143
    place = next(state for name, state in saved(run / LAST)["callbacks"].items() if "KeepPlace" in name)
    assert saved(run / LAST)["global_step"] == 3 and place["batches"] == 3 and place["global_batch"] == 4
    workers = ["data.workers=1"] if rank == "1" else []
    assert main(["train", f"resume={run}", *workers]) == 0
    assert_same(whole, run)


def test_a_killed_process_ends_the_others_and_a_restart_goes_on(
    small: list[str], whole: Path, tmp_path: Path, struck: Any, capfd: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    struck(3, "1", signal.SIGKILL)
    options = [*small, *OPTIONS, "trainer.devices=2", "trainer.save_every=2", f"run={run}"]
    assert main(["train", *options]) == 1
    assert f"resume={run}" in capfd.readouterr().err.splitlines()[-1]
    assert saved(run / LAST)["global_step"] == 2, "saved within the epoch"
    os.environ["STRIKE"] = "999,0,9"
    assert main(["train", f"resume={run}"]) == 0
    assert_same(whole, run)


def test_one_process_goes_on_where_two_stopped(small: list[str], whole: Path, tmp_path: Path, struck: Any) -> None:
    """The order of clips is that of the global batch, whatever the number of processes."""
    run = tmp_path / "run"
    struck(2, "0", signal.SIGINT)
    assert main(["train", *small, *OPTIONS, "dropout=0.0", "trainer.devices=2", f"run={run}"]) == 130
    assert main(["train", f"resume={run}", "trainer.devices=0"]) == 0  # as many as there are GPUs, or one
    assert saved(run / LAST)["global_step"] == saved(whole / LAST)["global_step"]
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["devices"] == 1


@pytest.fixture(scope="module")
def twice(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    run = tmp_path_factory.mktemp("twice") / "run"
    assert main(["train", *small, *OPTIONS, f"run={run}"]) == 0
    return run


@pytest.mark.parametrize("fault", ["cut", "bit", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    fault: str, twice: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(twice, run)
    assert saved(run / BEFORE)["global_step"] == 4 and saved(run / LAST)["global_step"] == 8
    data = bytearray((run / LAST).read_bytes())
    if fault == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    (run / LAST).write_bytes(data)
    if fault == "gone":
        (run / LAST).unlink()
    assert newest_whole(run) == run / BEFORE
    assert main(["train", f"resume={run}"]) == 0
    err = capsys.readouterr().err
    assert fault == "gone" or "damaged, or not a checkpoint" in err
    assert_same(twice, run)
    assert damage(run / LAST) is None and saved(run / BEFORE)["global_step"] == 4, "the damaged one is not kept"


def test_when_both_are_damaged_the_run_is_refused(twice: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    shutil.copytree(twice, run)
    for name in (LAST, BEFORE):
        (run / name).write_bytes(b"not a checkpoint")
    assert main(["train", f"resume={run}"]) == 2
    assert "damaged, or not a checkpoint" in capsys.readouterr().err


def test_other_clips_or_another_batch_are_refused(twice: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    shutil.copytree(twice, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["epochs"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data": {**config["data"], "batch_size": 8}}))
    assert main(["train", f"resume={run}"]) == 2
    assert "batches of 4" in capsys.readouterr().err
    manifest = Path(config["data"]["root"]) / "manifest.jsonl"
    before = manifest.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    next(row for row in rows if row["split"] == "train")["split"] = "test"
    folder = {
        **config["data"],
        "source": {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": str(tmp_path)},
    }
    for row in rows:
        row["path"] = str(manifest.parent / row["path"])
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "data": folder}))
    assert main(["train", f"resume={run}"]) == 2
    assert "training clips are not those" in capsys.readouterr().err


def test_only_the_machine_may_change_on_resume(twice: Path, capsys: pytest.CaptureFixture) -> None:
    before = (twice / "config.yaml").read_bytes()
    assert main(["train", f"resume={twice}", "optim.lr=1"]) == 2
    assert "optim.lr=1" in capsys.readouterr().err and (twice / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "trainer.devices=-1",
        "trainer.devices=3",  # of which a batch has 4 clips
        "trainer.checkpoints=parts",
        "trainer.shard=3",
        "trainer.strategy=copies",
        "trainer.save_every=-1",
        "trainer.threads=-2",
        "trainer.timeout_s=0",
        "trainer.profile=some",
        "data.workers=-1",
        "data.cache_gb=-1",
        "data.deadline_s=0",
        "launcher.endpoint=here",
        "logger.mode=other",
    ],
)
def test_a_wrong_change_on_resume_is_refused_and_not_kept(
    change: str, twice: Path, capsys: pytest.CaptureFixture
) -> None:
    before = {path: path.read_bytes() for path in twice.rglob("*") if path.is_file() and ".lease" not in path.parts}
    more = ["launcher=torchrun"] if change.startswith("launcher") else []
    assert main(["train", f"resume={twice}", *more, change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert change.split("=")[0].split(".")[-1].replace("mode", "logger") in line
    after = {path: path.read_bytes() for path in twice.rglob("*") if path.is_file() and ".lease" not in path.parts}
    assert after == before


@pytest.mark.parametrize(
    ("option", "named"), [("weight_average=ema", "weight_average"), ("pretrain=contrastive", "pretrain")]
)
def test_a_run_that_cannot_share_its_weights_is_not_resumed_so(
    option: str, named: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = create_run(compose("train", [*small, *OPTIONS, option, f"run={tmp_path / 'run'}"]))
    before = (run / "config.yaml").read_bytes()
    assert main(["train", f"resume={run}", "trainer.devices=2", "trainer.strategy=fsdp"]) == 2
    assert f"and {named} needs them whole" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


def test_slurms_warning_saves_requeues_once_and_stops(
    small: list[str], whole: Path, tmp_path: Path, struck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tools = tmp_path / "run", tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
    (tools / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    struck(2, "all", signal.SIGUSR1)
    assert main(["train", *small, *OPTIONS, "trainer.devices=2", f"run={run}"]) == 138
    assert (tmp_path / "scontrol.log").read_text() == "requeue 77\n"
    assert saved(run / LAST)["global_step"] == 3
    assert main(["train", f"resume={run}"]) == 0
    assert_same(whole, run)


def test_a_full_disk_at_a_checkpoint_is_said_and_leaves_the_last_one(twice: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    run = tmp_path / "run"
    shutil.copytree(twice, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["epochs"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    size = (run / LAST).stat().st_size
    code = (
        f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2})); "
        f"from mmattn.cli.main import main; raise SystemExit(main(['train', 'resume={run}']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and "cannot be written" in result.stderr and "Traceback" not in result.stderr
    assert newest_whole(run) == run / LAST and not list((run / LAST).parent.glob(".*"))
