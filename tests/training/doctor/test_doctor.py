"""`mmattn doctor`: every problem is found and comes with what to do."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from mmattn.cli.main import main
from mmattn.media.open import codecs as media_codecs
from mmattn.training.doctor import collective, devices, media, packages, resources, services
from mmattn.training.doctor.collective import Exchange
from mmattn.training.doctor.finding import MachineFinding
from mmattn.training.launch.port import free_port

pytestmark = pytest.mark.usefixtures("warm")

Usage = namedtuple("Usage", "total used free")


def test_this_machine_is_told_of_in_lines(capsys: pytest.CaptureFixture) -> None:
    code = main(["doctor", "disk_gb=0.001", "shared_gb=0.001"])
    out = capsys.readouterr().out
    for word in ("torch", "codecs", "gpu", "wandb", "slurm", "disk", "shared mem", "open files"):
        assert word in out
    assert code == (1 if "problem" in out else 0)
    assert all("fix:" in after for line, after in zip(out.splitlines(), out.splitlines()[1:], strict=False)
               if line.startswith("problem"))  # fmt: skip


def only(findings: object) -> MachineFinding:
    (finding,) = [one for one in findings if one.level == "problem"]  # type: ignore[attr-defined]
    assert finding.fix
    return finding


def test_too_little_disk_ends_with_code_one(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert main(["doctor", f"folder={tmp_path}/not/yet", "disk_gb=1e9"]) == 1
    said = capsys.readouterr()
    assert "problem disk" in said.out and "fix:" in said.out and "disk" in said.err


def test_little_shared_memory_names_the_containers_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64 << 20, 0, 64 << 20))
    assert "--shm-size" in only(resources.shared_memory(tmp_path, 1.0)).fix


@pytest.mark.parametrize("name", ["lightning", "torch"])
def test_wrong_versions_are_named_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = packages._version
    wrong = {"lightning": "2.6.3", "torch": "2.3.0"}[name]
    monkeypatch.setattr(packages, "_version", lambda asked: wrong if asked == name else own(asked))
    found = [one for one in packages.packages() if one.level == "problem"]
    assert {one.what for one in found} == {name}
    assert any(f"pip install '{name}" in one.fix for one in found)
    assert name != "lightning" or any("malicious" in one.found for one in found)


def test_a_torchvision_of_another_torch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    own = packages._version
    monkeypatch.setattr(packages, "_version", lambda asked: "0.15.1" if asked == "torchvision" else own(asked))
    finding = only(one for one in packages.builds() if one.what == "torchvision")
    assert "not built for torch" in finding.found and "torchvision" in finding.fix


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_codecs, "READ", ("h264", "no_such_codec"))
    assert "no_such_codec" in only(media.codecs()).found


def test_half_a_slurm_is_a_problem_and_none_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [one.level for one in services.slurm()] == ["note"]
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert "srun, scontrol" in only(services.slurm()).found


def test_a_driver_without_a_torch_for_it_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this torch has a GPU")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [one.level for one in devices.gpus()] == ["note"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "without CUDA" in only(devices.gpus()).found


def test_few_open_files_give_the_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 4096))
    assert only(resources.open_files()).fix == "ulimit -n 4096"


def test_processes_of_torchrun_exchange_and_the_first_tells() -> None:
    agent = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*agent, "-m", "mmattn", "doctor", "disk_gb=0.001", "shared_gb=0.001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    (line,) = [line for line in done.stdout.splitlines() if "all-reduce" in line]
    assert re.fullmatch(r"ok +all-reduce +gloo, 2 processes on 1 host: 64 MiB in [\d.]+ ms, [\d.]+ GB/s", line)
    assert sum("packages" in line for line in done.stdout.splitlines()) <= 1


def test_a_process_that_is_slow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Exchange("gloo", {"a": 2, "b": 1}, 0.05, 1.2, {"rank 2 on b": 3.04})
    monkeypatch.setattr(collective, "place", lambda: collective.Place(0, 3, 0, "a", 1))
    monkeypatch.setattr(collective, "exchange", lambda own: found)
    told = [str(finding) for finding in devices.exchanges()]
    assert "3 processes on 2 hosts" in told[0] and "rank 2 on b takes 3.0 times" in told[1]


def test_processes_that_do_not_meet_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective, "WAIT_S", 1.0)
    monkeypatch.setattr(collective, "place", lambda: collective.Place(1, 2, 1, "127.0.0.1", free_port()))
    assert "rank 1 of 2" in only(devices.exchanges()).found
