"""What each logger gets: the same numbers, how training ended, one run however often it is resumed."""

from __future__ import annotations

import csv
import json
import sqlite3
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import stops
import wandb
from test_train import wandb_records

from mmattn.cli.main import main
from mmattn.training.directory.record import run_id
from mmattn.training.logging import wandb_run

OPTIONS = ["fusion=late", "trainer.epochs=1", "trainer.log_every=1", "data.batch_size=8"]


def records(run: Path, kind: str) -> Iterator[Any]:
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        yield from (getattr(record, kind) for record in wandb_records(path) if record.HasField(kind))


@pytest.mark.parametrize(
    ("how", "code"), [("well", 0), ("failed", 1), ("stopped", 143)], ids=["well", "failed", "stopped"]
)
def test_wandb_knows_how_a_run_ended(
    how: str, code: int, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    wrong = ["optim.lr=1e30", "trainer.gradient_clip=0"] if how == "failed" else []
    if how == "stopped":
        monkeypatch.setenv("MMATTN_MOMENTS", "batch 0 1")
        stops.strike_at_every(monkeypatch.setattr, "SIGTERM", tmp_path / "struck")
    keep = ["logger.artifact=true"] if how == "well" else []
    assert main(["train", *small, *OPTIONS, "logger=wandb", "logger.clips=0", *keep, *wrong, f"run={run}"]) == code
    until = time.monotonic() + 60  # the last record is written by wandb's own process, which need not have come to it
    while not (endings := list(records(run, "exit"))) and time.monotonic() < until:
        time.sleep(0.1)
    assert [ending.exit_code for ending in endings] == [code]
    assert len(list(records(run, "preempting"))) == (how == "stopped")
    assert "model" in [artifact.type for artifact in records(run, "artifact")] or how != "well"


def test_a_resumed_runs_csv_has_every_line_once(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setenv("MMATTN_MOMENTS", "batch 0 1")
        stops.strike_at_every(patch.setattr, "SIGINT", tmp_path / "struck")
        assert main(["train", *small, *OPTIONS, "logger=csv", f"run={run}"]) == 130
    assert main(["train", f"resume={run}"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "csv" / "metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    assert rows == [{name: value for name, value in line.items() if name != "time"} for line in lines]
    assert any(row["step"] == 1 for row in rows)


def test_wandb_is_told_whose_the_run_is(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ["logger.entity=team", "logger.job_type=ablation", "logger.tags=short late", "logger.notes=why not"]
    command = ["train", "-m", *small, *OPTIONS, "logger=wandb", "logger.clips=0", *chosen, "seed=0,1", "sweep=mine"]
    assert main(command) == 0
    for seed in range(2):
        (told,) = records(Path(f"runs/sweeps/mine/seed={seed}"), "run")
        assert (told.entity, told.run_group, told.job_type) == ("team", "mine", "ablation")
        assert (list(told.tags), told.notes) == (["short", "late"], "why not")


def test_wandb_online_is_one_run_that_must_be_there_when_it_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """No server is at hand: what wandb is asked for online is looked at, and it goes on offline."""
    plain, asked = wandb.init, []

    def init(**options: Any) -> Any:
        asked.append(options)
        if options["mode"] == "online":
            raise OSError("no server")
        return plain(**options)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_run, "has_credentials", lambda: True)
    run = tmp_path / "run"
    monkeypatch.setenv("MMATTN_MOMENTS", "batch 0 1")
    stops.strike_at_every(monkeypatch.setattr, "SIGINT", tmp_path / "struck")
    command = ["train", *small, *OPTIONS, "logger=wandb", "logger.clips=0", "logger.online=true", f"run={run}"]
    assert main(command) == 130
    (run / "wandb" / f"run-20260101_000000-{run_id(run)}").mkdir()
    assert main(["train", f"resume={run}"]) == 0
    assert [(call["mode"], call["resume"]) for call in asked] == [
        *(("online", "allow"), ("offline", None)),
        *(("online", "must"), ("offline", None)),
    ]
    assert {call["id"] for call in asked} == {run_id(run)}
    assert [call["settings"].x_disable_stats for call in asked] == [False, True, False, True]
    assert "online failed (no server)" in capsys.readouterr().err


def numbers(run: Path) -> list[tuple[int, str, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return sorted((line["step"], name, value) for line in lines for name, value in line.items() if "/" in name)


def twice(small: list[str], run: Path, logger: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the first epoch and gone on with."""
    monkeypatch.setenv("MMATTN_MOMENTS", "batch 0 1")
    stops.strike_at_every(monkeypatch.setattr, "SIGINT", tmp_path / "struck")
    assert main(["train", *small, *OPTIONS, *logger, f"run={run}"]) == 130
    assert main(["train", f"resume={run}"]) == 0


@pytest.mark.filterwarnings("default")  # of the package, about itself
def test_mlflow_has_the_same_numbers_in_one_run(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow.store.tracking.sqlalchemy_store")
    run = tmp_path / "run"
    twice(small, run, ["logger=mlflow", "logger.group=some"], tmp_path, monkeypatch)
    with sqlite3.connect(run / "mlflow.db") as database:
        found = database.execute("select step, key, value from metrics").fetchall()
        assert sorted(row for row in found if "/" in row[1]) == numbers(run)
        assert database.execute("select name, status from runs").fetchall() == [("run", "FINISHED")]
        assert ("some",) in database.execute("select value from tags where key = 'group'").fetchall()
        assert ("2",) in database.execute("select value from params where key = 'heads'").fetchall()


@pytest.mark.filterwarnings("default")
def test_trackio_has_the_same_numbers_in_one_run(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")  # for the first time: it looks for its folder then
    run = tmp_path / "run"
    twice(small, run, ["logger=trackio", "logger.group=some"], tmp_path, monkeypatch)
    with sqlite3.connect(tmp_path / "trackio" / "mmattn.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
        assert {name for name, _, _ in rows} == {f"run-{run_id(run)}"}
        found = [(step, key, value) for _, step, text in rows for key, value in json.loads(text).items()]
        assert sorted(row for row in found if "/" in row[1]) == numbers(run)


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_a_logger_that_is_not_installed_is_named_with_the_command(
    name: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    assert main(["train", *small, *OPTIONS, f"logger={name}", f"run={tmp_path / 'run'}"]) == 2
    assert f"pip install 'mmattn[{name}]'" in capsys.readouterr().err
