"""Sweeps of real runs: told, trained, evaluated, gone on with, listed and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mmattn.cli.main import main
from mmattn.training.directory.exclusive import exclusive
from mmattn.weighting.clip_scores import load_clip_scores

pytestmark = pytest.mark.usefixtures("warm")


def test_a_sweep_from_its_dry_run_to_its_page(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [one for one in small if one not in ("fusion.layers=1", "trainer.epochs=2")]
    small = [one for one in small if one != "heads=2"]  # 16 channels cannot be shared among 3 heads
    command = ["train", "-m", *small, "trainer.epochs=1", "logger=none", "fusion=late,cross", "seed=0,1", "sweep=mine"]
    folder = Path("runs/sweeps/mine")
    assert main([*command, "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 + 4 + 2 and all(int(line.split()[0].replace(",", "")) > 1000 for line in told[1:5])
    assert "4 runs to do, about" in told[5] and "of each of 2 models" in told[5] and not Path("runs").exists()

    assert main([*command, "sweep.evaluate=test"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    for run in folder.glob("fusion*"):
        record = json.loads((run / "evaluation-test.json").read_text())
        assert len(load_clip_scores(run / "evaluation-test-scores.safetensors").ids) == record["clips"] > 0
    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}
    (folder / "fusion=late,seed=1" / "evaluation-test.json").unlink()
    assert main([*command, "sweep.evaluate=test"]) == 0
    changed = {file.parent.name for file, at in kept.items() if file.stat().st_mtime_ns != at}
    assert changed == {"fusion=late,seed=1"}, "only what was missing"

    assert main(["sweep", "ls", str(folder)]) == 0
    listed = capsys.readouterr().out.splitlines()[2:]
    assert listed[-2] == "4 done of 4" and listed[-1] == f"best: {folder / listed[0].split()[2]}"
    scores = [float(line.split()[1]) for line in listed[:4]]
    assert scores == sorted(scores, reverse=True)
    assert main(["sweep", "ls", str(folder), "metric=val/calibration_error"]) == 0
    errors = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:5]]
    assert errors == sorted(errors), "of an error the least is the best"
    shutil.rmtree(folder / "fusion=late,seed=0")
    (folder / "fusion=late,seed=1" / "finished.json").unlink()
    (folder / ".failed").mkdir()
    (folder / ".failed" / "fusion=cross,seed=1.json").write_text('{"reason": "no disk"}')
    (folder / "fusion=cross,seed=0" / "finished.json").unlink()
    with exclusive(folder / "fusion=cross,seed=0"):
        assert main(["sweep", "ls", str(folder)]) == 0
    states = {line.split()[2].rstrip(":"): line.split()[0] for line in capsys.readouterr().out.splitlines()[1:5]}
    assert states == {
        "fusion=cross,seed=0": "running",
        "fusion=cross,seed=1": "failed",
        "fusion=late,seed=0": "open",
        "fusion=late,seed=1": "stopped",
    }
    assert main(["sweep", "ls", str(tmp_path)]) == 2
    assert "not the folder of a sweep" in capsys.readouterr().err


def test_a_run_that_cannot_be_built_is_counted_and_the_others_are_trained(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [one for one in small if one != "heads=2"]  # 16 channels cannot be shared among 3 heads
    command = ["train", "-m", *small, "trainer.epochs=1", "logger=none", "heads=3,2", "sweep=mine"]
    assert main([*command, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "will fail: " in told and "1 cannot be built" in told
    assert main(command) == 1
    assert "1 of 2 runs failed" in capsys.readouterr().err
    assert Path("runs/sweeps/mine/heads=2/finished.json").is_file()
    assert main(["sweep", "ls", "runs/sweeps/mine"]) == 0
    assert "1 done, 1 failed of 2" in capsys.readouterr().out


@pytest.mark.parametrize(("budget", "told"), [("params", "number of parameters"), ("flops", "operations of one clip")])
def test_rows_are_made_as_large_before_they_are_trained(
    budget: str, told: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [one for one in small if one not in ("fusion.layers=1", "trainer.epochs=2", "dim=16", "heads=2")]
    small += ["dim=48", "heads=2", "trainer.epochs=1", "logger=none", "sweep=mine"]
    assert main(["train", "-m", *small, "fusion=cross,concat,recurrent", "attention=dense", f"budget={budget}"]) == 0
    assert main(["compare", "sweep=runs/sweeps/mine", "samples=0", "out=c.html"]) == 0
    rows = json.loads(Path("c.json").read_text())["rows"]
    sizes = {row["fusion"]: row["parameters" if budget == "params" else "flops"] for row in rows}
    assert len(sizes) == 3 and max(sizes.values()) < 1.15 * min(sizes.values()), sizes
    dims = {yaml.safe_load((run / "config.yaml").read_text())["dim"] for run in Path("runs/sweeps/mine").glob("fus*")}
    assert 48 in dims and len(dims) >= 2
    page = Path("c.html").read_text()
    assert f"Held equal: the {told}" in page and "differ in dim" not in page
