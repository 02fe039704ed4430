"""Options of training as a whole program: a resumed run repeats the whole one, and two processes train as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmattn.checkpoint import MODEL_FILE
from mmattn.cli.main import main
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.logging import loggers as logging

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = {
    "modulated, averaged, accumulated": [
        *("modality_balance=ogm_ge", "weight_average=ema", "trainer.accumulate=2", "data.batch_size=4"),
    ],
    "heads alone, mean weights, frozen first": [
        *("modality_balance=unimodal_losses", "weight_average=swa", "weight_average.start=0.2"),
        *("freeze=encoders", "freeze.epochs=1", "freeze.stages=2"),
    ],
}


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_run_stopped_in_mid_epoch_ends_as_the_whole_run_does(
    options: list[str], small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*small, "logger=none", "trainer.epochs=3", "dropout=0.1", "trainer.log_every=1", *options]
    assert main(["train", *options, f"run={tmp_path / 'whole'}"]) == 0

    plain = SeedSteps.on_train_batch_start

    def interrupt_in_step_three(self, trainer, pl_module, batch, batch_idx) -> None:
        plain(self, trainer, pl_module, batch, batch_idx)
        if trainer.global_step == 2:  # with accumulation: at the first batch of the third step
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SeedSteps, "on_train_batch_start", interrupt_in_step_three)
        assert main(["train", *options, f"run={tmp_path / 'halves'}"]) == 130
    assert torch.load(tmp_path / "halves" / LAST, weights_only=True)["global_step"] == 3
    assert main(["train", f"resume={tmp_path / 'halves'}"]) == 0

    whole, halves = (torch.load(tmp_path / run / LAST, weights_only=True) for run in ("whole", "halves"))
    assert whole["global_step"] == halves["global_step"] == 6
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, halves["state_dict"][name]), name
    average = next(state for name, state in whole["callbacks"].items() if "Average" in name)["average"]
    again = next(state for name, state in halves["callbacks"].items() if "Average" in name)["average"]
    assert average.keys() == again.keys() and all(torch.equal(average[name], again[name]) for name in average)
    saved, resaved = (load_file(tmp_path / run / MODEL_FILE) for run in ("whole", "halves"))
    assert all(torch.equal(saved[name], resaved[name]) for name in saved)
    records = [json.loads((tmp_path / run / "evaluation.json").read_text()) for run in ("whole", "halves")]
    assert records[0] == records[1]
    assert records[0]["gradient_share"]["steps"] == 2, "of the steps since the validation before"
    if records[0]["epoch"] == 2:
        assert all(torch.equal(saved[name], weight.to(saved[name].dtype)) for name, weight in average.items())


def test_the_gradient_share_is_logged_each_interval_and_kept(trained: Path) -> None:
    evaluation = json.loads((trained / "evaluation.json").read_text())
    share = evaluation["gradient_share"]
    assert share["video"] + share["audio"] == pytest.approx(1) and 0 < share["audio"] < 1
    lines = [line for line in _metrics(trained) if "train/gradient_share/audio" in line]
    assert len(lines) == 4, "two steps in each of two epochs"
    for line in lines:
        norms = line["train/gradient_norm/video"], line["train/gradient_norm/audio"]
        assert line["train/gradient_share/audio"] == pytest.approx(norms[1] / sum(norms))
    last = [line["train/gradient_share/audio"] for line in lines][-2:]
    if evaluation["epoch"] == 1:
        assert share["audio"] == pytest.approx(sum(last) / 2)


def test_every_option_logs_what_it_does(small: list[str], tmp_path: Path) -> None:
    for choice, keys in (
        ("ogm_ge", {"train/balance/video", "train/balance/audio"}),
        ("unimodal_losses", {"train/loss_video", "train/loss_audio"}),
    ):
        run = tmp_path / choice
        options = ["logger=none", "trainer.epochs=1", "trainer.log_every=1", f"modality_balance={choice}"]
        assert main(["train", *small, *options, f"run={run}"]) == 0
        assert keys <= {key for line in _metrics(run) for key in line}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_two_processes_stay_one_model(
    options: list[str], small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, factors, averages and what is frozen are the same on both, or their weights would part ways."""
    start = subprocess.Popen
    worker = str(Path(__file__).with_name("rank_worker.py"))

    def start_ours(command: list[str], **settings: Any) -> subprocess.Popen:
        swapped = [command[0], worker, command[-1]] if "mmattn.training.worker" in command else command
        return start(swapped, **settings)

    monkeypatch.setattr(subprocess, "Popen", start_ours)
    run = tmp_path / "run"
    assert main(["train", *small, "logger=none", *options, "trainer.devices=2", f"run={run}"]) == 0
    one, other = (torch.load(run / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    saved = torch.load(run / LAST, weights_only=True)["state_dict"]
    for name, weight in one.items():
        assert torch.equal(weight, other[name]) and torch.equal(weight, saved[f"model.{name}"]), name


def test_tensorboard_gets_the_curves_or_says_what_to_install(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    options = [*small, "logger=tensorboard", "trainer.epochs=1", "trainer.log_every=1"]
    monkeypatch.setattr(logging, "find_spec", lambda name: None)
    assert main(["train", *options, f"run={tmp_path / 'absent'}"]) == 2
    assert "mmattn[tensorboard]" in capsys.readouterr().err and not (tmp_path / "absent").exists()
    monkeypatch.undo()
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["train", *options, f"run={tmp_path / 'run'}"]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    keys = {"val/shapley/audio", "val/permutation/video", "train/gradient_share/audio"}
    assert keys <= set(events.Tags()["scalars"])
    logged = {line["step"]: line["val/shapley/audio"] for line in _metrics(tmp_path / "run") if "val/mAP" in line}
    assert {event.step: event.value for event in events.Scalars("val/shapley/audio")} == pytest.approx(logged)


@pytest.mark.parametrize(
    "wrong",
    ["modality_balance.alpha=-1", "weight_average.decay=1.0", "freeze.epochs=0", "trainer.accumulate=0"],
)
def test_wrong_settings_are_named_before_anything_is_written(
    wrong: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    chosen = ["modality_balance=ogm_ge", "weight_average=ema", "freeze=encoders", wrong]
    assert main(["train", *small, "logger=none", *chosen, f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert wrong.split(".")[0] in line
    assert not (tmp_path / "run").exists()
