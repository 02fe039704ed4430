"""A run that is stopped or dies at every moment there is, one after the other, ends as one that nothing disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stops
import torch

from mmattn.cli.main import main
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.directory.names import CONFIG_FILE

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["fusion=cross", "logger=none", "trainer.epochs=3", "trainer.log_every=1", "data.batch_size=4", "dropout=0.1"]
KINDS = {
    "epochs": ["weight_average=ema"],
    "steps": ["trainer.max_steps=7", "trainer.validate_every_steps=3", "trainer.keep_by=loss", "trainer.save_every=2"],
    "accumulated": ["trainer.accumulate=3", "trainer.validate_every=2", "trainer.save_every=1"],
    "patient": [
        "trainer.patience=1",
        "trainer.validate_every_steps=2",
        "trainer.keep_by=loss",
        "trainer.keep_mode=max",
    ],
}
SPEED = ("time", "train/step/clips_per_s", "train/step/waiting")


@pytest.fixture(scope="module")
def whole(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """`whole(kind, ranks)`: a run that nothing disturbed."""
    made: dict[tuple[str, int], Path] = {}

    def run_of(kind: str, ranks: int) -> Path:
        if (kind, ranks) not in made:
            run = tmp_path_factory.mktemp("whole") / "run"
            options = [*small, *OPTIONS, *KINDS[kind], f"trainer.devices={ranks}"]
            assert main(["train", *options, f"run={run}"]) == 0
            made[kind, ranks] = run
        return made[kind, ranks]

    return run_of


def numbers(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]


def assert_same(whole: Path, run: Path) -> None:
    assert numbers(run) == numbers(whole)
    assert json.loads((run / "evaluation.json").read_text()) == json.loads((whole / "evaluation.json").read_text())
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    one, other = (torch.load(path / LAST, weights_only=True) for path in (whole, run))
    assert one["global_step"] == other["global_step"]
    assert all(torch.equal(weight, other["state_dict"][name]) for name, weight in one["state_dict"].items())
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert all(torch.equal(states[0][k][name], states[1][k][name]) for k in states[0] for name in states[0][k])
    assert (run / "finished.json").is_file()


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("epochs", "SIGINT"),
        ("steps", "SIGTERM"),
        ("accumulated", "SIGINT"),
        ("patient", "SIGTERM"),
        ("steps", "death"),
        ("accumulated", "death"),
    ],
)
def test_stopped_at_every_moment_it_ends_as_if_it_had_not_been(
    kind: str, how: str, small: list[str], whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, run = whole(kind, 1), tmp_path / "run"
    moments = stops.strike_at_every(monkeypatch.setattr, how, tmp_path / "struck")
    code, starts, command = -1, 0, ["train", *small, *OPTIONS, *KINDS[kind], f"run={run}"]
    while code != 0:
        seen = len(moments())
        try:
            code = main(command)
        except stops.Died:
            code = -9
        expected = {"death": -9, "SIGINT": 130, "SIGTERM": 143}[how]
        assert code in (0, expected)
        assert code == 0 or len(moments()) > seen, "it did not come any further"
        if (run / CONFIG_FILE).is_file():
            command = ["train", f"resume={run}"]
        elif run.is_dir():
            command = [*command[:-1], f"run={(run := run.with_name(f'run{starts}'))}"]
        starts += 1
    kinds = {moment.split()[0] for moment in moments()}
    assert kinds == {"batch", "validation", "validated", "keep", "write", "epoch"}
    assert_same(undisturbed, run)


@pytest.mark.parametrize(
    ("kind", "how", "rank", "moments"),
    [
        pytest.param("epochs", "SIGTERM", 1, {"batch 0 0", "batch 0 3", "validation 4 0"}, id="some"),
        pytest.param("steps", "SIGKILL", 0, {"write 4", "validation 6 0"}, id="some-killed"),
        *(
            pytest.param(kind, how, rank, None, marks=[pytest.mark.slow, pytest.mark.timeout(5400)])
            for kind, how, rank in (
                ("epochs", "SIGINT", 0),
                ("steps", "SIGTERM", 1),
                ("accumulated", "SIGKILL", 0),
                ("patient", "SIGKILL", 1),
            )
        ),
    ],
)
def test_two_processes_of_which_one_is_struck_end_as_two_that_were_not(
    kind: str, how: str, rank: int, moments: set[str] | None, small: list[str], whole: Any, tmp_path: Path
) -> None:
    """Real signals, one of them kill -9, to one process. `moments`: those at which it is struck; None = all."""
    undisturbed, run, struck = whole(kind, 2), tmp_path / "run", tmp_path / "struck"
    environment = {**os.environ, "MMATTN_STRIKE": f"{rank} {how} {struck}"}
    environment["PYTHONPATH"] = f"{Path(__file__).with_name('strikes')}:{os.environ.get('PYTHONPATH', '')}"
    if moments is not None:
        environment["MMATTN_MOMENTS"] = ",".join(moments)
    program = [sys.executable, "-m", "mmattn", "train"]
    command, starts = [*small, *OPTIONS, *KINDS[kind], "trainer.devices=2", f"run={run}"], 0
    expected = {"SIGKILL": 1, "SIGINT": 130, "SIGTERM": 143}[how]
    while True:
        result = subprocess.run([*program, *command], env=environment, capture_output=True, text=True, timeout=300)
        if result.returncode == 0:
            break
        assert result.returncode == expected, result.stderr
        starts += 1
        assert len(struck.read_text().splitlines()) >= starts, f"it did not come any further: {result.stderr}"
        if (run / CONFIG_FILE).is_file():
            command = [f"resume={run}"]
        else:
            command = [*command[:-1], f"run={(run := run.with_name(f'run{starts}'))}"]
    assert moments is None or set(struck.read_text().splitlines()) == moments
    assert_same(undisturbed, run)
