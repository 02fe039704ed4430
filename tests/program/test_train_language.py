"""A run with a frozen language model: its checkpoints name the model's files instead of holding them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.directory.names import FINISHED_FILE

pytestmark = pytest.mark.usefixtures("warm")
transformers = pytest.importorskip("transformers")
WIDTH = 64


def publish(folder: Path, seed: int) -> None:
    tokenizer = CaptionTokenizer.learn(["a red circle beeps", "nothing moves"], "bpe", 300)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": WIDTH, "n_positions": 64}
    marks = {"vocab_size": tokenizer.size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(seed)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **marks)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.definition)


def given(folder: Path) -> list[str]:
    pretrained = ["logger=none", "captions=hf", "captions.mode=frozen", f"captions.pretrained={folder}"]
    return [*pretrained, "captions.max_length=12", "captions.decoding.max_length=13", "captions.decoding.beams=1"]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", [["captions.dtype=bfloat16"], ["weight_average=ema"]], ids=["bf16", "averaged"])
def test_checkpoints_leave_the_frozen_model_to_its_files(
    options: list[str], small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = tmp_path / "language", tmp_path / "run"
    publish(folder, 0)
    assert main(["train", *small, *given(folder), *options, "trainer.epochs=1", f"run={run}"]) == 0
    first = torch.load(run / LAST, weights_only=True)
    assert not [name for name in first["state_dict"] if name.startswith("model.captions.language.transformer")]
    kept = [name for state in first["callbacks"].values() for name in (state or {}).get("average", ())]
    assert bool(kept) == ("weight_average=ema" in options)
    assert not [name for name in kept if name.startswith("captions.language.")]
    own = load_model(run).model.captions
    assert own is not None
    published = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, weight in own.language.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(weight, published[name].to(weight.dtype)), "the model for use is whole"
    (run / FINISHED_FILE).unlink()
    assert main(["train", f"resume={run}"]) == 0
    second = torch.load(run / LAST, weights_only=True)
    assert all(torch.equal(second["state_dict"][name], weight) for name, weight in first["state_dict"].items())
    (run / FINISHED_FILE).unlink()
    publish(folder, 1)
    capsys.readouterr()
    assert main(["train", f"resume={run}"]) == 2
    assert "is not the one that the checkpoint was trained with" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["captions.dtype=bfloat16"]], ids=["fp32", "bf16"])
def test_processes_that_share_the_weights_continue_a_run_that_left_the_frozen_model_out(
    options: list[str], small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, runs = tmp_path / "language", [tmp_path / name for name in ("alone", "shares", "changed")]
    publish(folder, 0)
    settings = [*small, *given(folder), *options, "trainer.log_every=1", "trainer.save_every=2"]
    assert main(["train", *settings, f"run={runs[0]}"]) == 0
    published = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for run in runs[1:]:
        shutil.copytree(runs[0], run)
        (run / LAST).unlink()
        (run / FINISHED_FILE).unlink()
    shares = ["trainer.devices=2", "trainer.strategy=fsdp"]
    assert main(["train", f"resume={runs[1]}", *shares]) == 0
    alone, both = (load_model(run).model.captions for run in runs[:2])
    assert alone is not None and both is not None
    for name, weight in both.language.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(weight, published[name].to(weight.dtype))
    losses = [[line["val/loss"] for line in metrics(run) if "val/loss" in line] for run in runs[:2]]
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-3)
    publish(folder, 1)
    capfd.readouterr()
    assert main(["train", f"resume={runs[2]}", *shares]) == 2
    assert "is not the one that the checkpoint was trained with" in capfd.readouterr().err
