"""16-mixed: what the scaler knows survives a resume, and a step that is not finite is skipped by every process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import half_worker
import pytest
import torch

from mmattn.cli.main import main
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.checkpoints.atomic import LAST

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["logger=none", "fusion=late", "trainer.epochs=2", "data.batch_size=4", "dropout=0.1"]


def test_a_resumed_run_scales_as_the_whole_one(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_worker.in_half(monkeypatch.setattr)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert main(["train", *small, *OPTIONS, f"run={whole}"]) == 0
    plain = SeedSteps.on_train_batch_start

    def interrupt(self: SeedSteps, trainer: Any, *rest: Any) -> None:
        plain(self, trainer, *rest)
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SeedSteps, "on_train_batch_start", interrupt)
        assert main(["train", *small, *OPTIONS, f"run={run}"]) == 130
    assert torch.load(run / LAST, weights_only=True)["global_step"] == 3
    assert main(["train", f"resume={run}"]) == 0
    one, other = (torch.load(path / LAST, weights_only=True) for path in (whole, run))
    assert one["MixedPrecision"] == other["MixedPrecision"] and one["MixedPrecision"]["scale"] == 2.0**14
    assert all(torch.equal(weight, other["state_dict"][name]) for name, weight in one["state_dict"].items())


def test_a_step_that_is_not_finite_on_one_process_is_skipped_by_both(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, ours = subprocess.Popen, str(Path(half_worker.__file__))

    def start_ours(command: list[str], **settings: Any) -> subprocess.Popen:
        swapped = [command[0], ours, command[-1]] if "mmattn.training.worker" in command else command
        return start(swapped, **settings)

    monkeypatch.setattr(subprocess, "Popen", start_ours)
    monkeypatch.setenv("HALF", "1,3")
    run = tmp_path / "run"
    assert main(["train", *small, *OPTIONS, "trainer.devices=2", f"run={run}"]) == 0
    first, second = (torch.load(run / half_worker.WEIGHTS.format(rank=rank), weights_only=True) for rank in (0, 1))
    assert len(first) == len(second) == 8
    for (scale, weights), (other_scale, other_weights) in zip(first, second, strict=True):
        assert scale == other_scale and torch.equal(weights, other_weights)
    kept = [torch.equal(weights, before) for (_, weights), (_, before) in zip(first[1:], first, strict=False)]
    assert kept == [number == 2 for number in range(7)], "the fourth step alone"
    assert first[3][0] == first[2][0] / 2
