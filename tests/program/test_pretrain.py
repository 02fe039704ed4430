"""Pretraining without labels, then training from it with few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmattn.checkpoint import MODEL_FILE
from mmattn.cli.main import main

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["logger=none", "trainer.epochs=1", "trainer.log_every=1", "fusion=cross"]


@pytest.fixture(scope="module")
def pretrained(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrained") / "run"
    more = ["pretrain=cav_mae", "trainer.devices=2"]
    assert main(["train", *small, *OPTIONS, *more, f"run={run}"]) == 0
    return run


def test_two_processes_pretrain_and_validate(pretrained: Path) -> None:
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    (validated,) = [line for line in lines if "val/loss" in line]
    assert {"val/loss_video", "val/loss_audio", "val/loss_contrast", "val/retrieved"} <= validated.keys()
    assert validated["val/loss"] == pytest.approx(validated["val/loss_masked"] + 0.01 * validated["val/loss_contrast"])
    assert load_file(pretrained / MODEL_FILE)


def test_training_starts_from_the_pretrained_encoders_and_fusion_with_few_labels(
    small: list[str], pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    still = ["optim.lr=1e-12", "data.label_fraction=0.5", f"init_from={pretrained}"]
    assert main(["train", *small, *OPTIONS, *still, f"run={run}"]) == 0
    before, after = load_file(pretrained / MODEL_FILE), load_file(run / MODEL_FILE)
    for name, weight in before.items():
        if not name.startswith("task."):
            torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["visual.widths=[8,8,24]", "init_from={}"], "visual encoder differs"),
        (["init_from=nowhere"], "no such run or model.safetensors"),
        (["data.label_fraction=0"], "label_fraction"),
        (["pretrain=mae", "weight_average=ema"], "weight_average"),
        (["pretrain=mae", "trainer.patience=2"], "trainer.patience=2"),
        (["pretrain=mae", "trainer.keep_by=loss"], "trainer.keep_by=loss"),
        (["pretrain=mae", "trainer.strategy=fsdp"], "trainer.strategy=ddp"),
        (["pretrain=mae", "pretrain.patch=7"], "48x48"),
    ],
)
def test_what_does_not_fit_is_said_before_a_run_is_made(
    wrong: list[str], says: str, small: list[str], pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    chosen = [text.format(pretrained) for text in wrong]
    assert main(["train", *small, *OPTIONS, *chosen, f"run={tmp_path / 'run'}"]) == 2
    assert says in capsys.readouterr().err
    assert says == "48x48" or not (tmp_path / "run").exists()
