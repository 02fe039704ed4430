"""Checkpoints of before parameters had the names of torch, timm and transformers load and give the same.

tests/named_before: names of the parameters of many models, in their order, a model file, and what it answered, all
written by that version.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from mmattn.checkpoint import MODEL_FILE, load_model
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.renamed import present_names, renamed
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.checkpoints.parts import read_parts, read_rest, read_tensors, write_parts
from mmattn.training.checkpoints.states import flatten, unflatten
from mmattn.training.weight_average.ema import ExponentialAverage

BEFORE = Path(__file__).parent / "named_before"
SECTIONS = [section.splitlines() for section in (BEFORE / "names.txt").read_text().split("[")[1:]]
MODELS = {title[:-1]: names for title, *names in SECTIONS}


def _present(choices: str, tiny_model: Callable) -> tuple[str, list[str]]:
    part = choices.partition("=")[0]
    model = getattr(tiny_model(*(f"++{one}" if "joint" in one else one for one in choices.split())), part)
    return part, [name for name, _ in model.named_parameters() if ".language." not in f".{name}"]


@pytest.mark.parametrize("choices", MODELS)
@pytest.mark.parametrize("prefix", ["", "model.", "optimizer_states/0/exp_avg/model."], ids=["model", "run", "parts"])
def test_each_parameter_has_its_present_name_in_the_order_of_before(
    choices: str, prefix: str, tiny_model: Callable
) -> None:
    part, present = _present(choices, tiny_model)
    before = [f"{prefix}{part}.{name}" for name in MODELS[choices]]
    after = [f"{prefix}{part}.{name}" for name in present]
    assert list(present_names(before).values()) == after, "also in this order, as optimizers number their states"
    assert present_names(after) == {name: name for name in after}, "present names stay"


def test_a_model_file_of_before_answers_as_it_did(make_batch: Callable) -> None:
    model, expected = load_model(BEFORE / "model.safetensors").model, load_file(BEFORE / "expected.safetensors")
    with torch.no_grad():
        fused = model.fuse(*model.encode(make_batch()))
        words = model.captions.read(fused, torch.tensor([[1, 3, 4], [1, 4, 5]])).logits
    torch.testing.assert_close(model.task(fused), expected["tags"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(words, expected["words"], rtol=1e-4, atol=1e-5)


def test_its_weights_are_those_of_the_file_bit_for_bit() -> None:
    stored, loaded = (
        load_file(BEFORE / "model.safetensors"),
        load_model(BEFORE / "model.safetensors").model.state_dict(),
    )
    new = present_names(stored)
    assert sum(name != new[name] for name in stored) > 50
    assert all(torch.equal(loaded[new[name]], weight) for name, weight in stored.items())


def test_a_name_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    data = (BEFORE / "model.safetensors").read_bytes()
    write_atomically(
        tmp_path / MODEL_FILE, data.replace(b"captions.layers.0.ask_among.bias", b"captions.layers.0.ask_amang.bias")
    )
    with pytest.raises(UsageError, match="weights do not fit"):
        load_model(tmp_path)


def test_a_name_stays_where_the_present_one_is_there_too() -> None:
    assert renamed({"fusion.kind.video": 1, "fusion.modality_embed.video": 2}) == {
        "fusion.kind.video": 1,
        "fusion.modality_embed.video": 2,
    }


def test_a_checkpoint_of_training_and_its_averages_are_renamed(tmp_path: Path) -> None:
    weight = torch.ones(2)
    AtomicCheckpointIO().save_checkpoint(
        {"state_dict": {"model.fusion.kind.video": weight}, "epoch": 1}, tmp_path / "a"
    )
    found = AtomicCheckpointIO().read(tmp_path / "a")
    assert (list(found["state_dict"]), found["epoch"]) == (["model.fusion.modality_embed.video"], 1)
    average = ExponentialAverage(0.9)
    average.load_state_dict({"steps": 3, "average": {"fusion.kind.video": weight}})
    assert average.state_dict() == {"steps": 3, "average": {"fusion.modality_embed.video": weight}}


def test_a_checkpoint_in_parts_is_renamed_with_its_optimizer(tmp_path: Path) -> None:
    old, new = "model.fusion.kind.video", "model.fusion.modality_embed.video"
    groups = [[{"lr": 0.1, "params": [old]}]]
    stored = flatten({old: torch.ones(2)}, [{"state": {old: {"exp_avg": torch.arange(2.0)}}}])
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        write_parts(tmp_path / "parts", stored, {"optimizer_states": groups})
        into = flatten({new: torch.zeros(2)}, [{"state": {new: {"exp_avg": torch.zeros(2)}}}])
        read_parts(tmp_path / "parts", into)
    finally:
        distributed.destroy_process_group()
    rest = read_rest(tmp_path / "parts")
    assert rest["optimizer_states"] == [[{"lr": 0.1, "params": [new]}]]
    for tensors in (into, read_tensors(tmp_path / "parts")):
        weights, (optimizer,) = unflatten(tensors, rest["optimizer_states"])
        assert {name: weight.tolist() for name, weight in weights.items()} == {new: [1.0, 1.0]}
        assert optimizer["state"][new]["exp_avg"].tolist() == [0.0, 1.0]
