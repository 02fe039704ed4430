"""A model of task=prompted is trained, and asked for tags that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmattn.checkpoint import load_model
from mmattn.cli.main import main

pytestmark = pytest.mark.usefixtures("warm")


def test_other_tags_can_be_asked_for(
    trained: Path, small: list[str], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = load_model(trained).vocabulary.names
    save_file({name: torch.randn(8) for name in names}, tmp_path / "tags.safetensors")
    save_file({"cat": torch.randn(8), "dog": torch.randn(8)}, tmp_path / "new.safetensors")
    run, source = tmp_path / "run", shapes / "clips" / "000000.mp4"
    prompted = ["task=prompted", f"task.pretrained={tmp_path / 'tags.safetensors'}", "trainer.epochs=1"]
    losses = ["tag_loss=focal", "task.class_weights=effective", "task.label_smoothing=0.1", "task.calibrate=0.8"]
    assert main(["train", *small, *prompted, *losses, "logger=none", f"run={run}"]) == 0
    (tmp_path / "tags.safetensors").unlink()
    assert load_model(run).vocabulary.names == names
    asked = [f"source={source}", f"prompts={tmp_path / 'new.safetensors'}", "threshold=0"]
    assert main(["predict", f"run={run}", *asked, f"out={tmp_path / 'o.jsonl'}"]) == 0
    (record,) = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert {tag["tag"] for tag in record["tags"]} == {"cat", "dog"}
    capsys.readouterr()
    assert main(["predict", f"run={trained}", *asked, f"out={tmp_path / 'p.jsonl'}"]) == 2
    assert "train with task=prompted" in capsys.readouterr().err
    assert main(["predict", f"run={run}", f"source={source}", "prompts=nowhere.npz", f"out={tmp_path / 'q'}"]) == 2
    assert "prompts=nowhere.npz: no such file" in capsys.readouterr().err
