"""Models that are built without weights, and filled with those of the first process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from mmattn.config.compose import Config, build, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.model import AVModel, build_model
from mmattn.training.sharding.meta import fill_from_first, without_weights
from mmattn.training.sharding.module import _precision, shard
from small_models import CAPTIONS, SMALL

BUILT = [
    *(f"{group}={name}" for group in ("fusion", "attention") for name in group_choices(group)),
    *SMALL,
    "captions=transformer",
]


@pytest.mark.parametrize("part", BUILT)
def test_every_part_is_built_without_weights_as_it_is_with_them(part: str, tiny_model: Callable[..., AVModel]) -> None:
    whole = tiny_model(part)
    with without_weights():
        bare = tiny_model(part)
    assert all(weight.is_meta for weight in bare.parameters())
    for kind in ("named_parameters", "named_buffers"):
        outlines = [
            [(name, each.shape, each.dtype, each.requires_grad) for name, each in getattr(model, kind)()]
            for model in (whole, bare)
        ]
        assert outlines[0] == outlines[1]
    assert whole.state_dict().keys() == bare.state_dict().keys()  # which names shared weights twice
    assert not any(buffer.is_meta for buffer in bare.buffers())
    assert not any(weight.is_meta for weight in tiny_model(part).parameters()), "only meanwhile"


def _process(rank: int, config: Config, vocabulary: TagVocabulary, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    tokenizer = build(config["captions"]["tokenizer"], captions=CAPTIONS)
    with without_weights() if rank else nullcontext():
        model = build_model(config, vocabulary, tokenizer)
    for buffer in model.buffers():
        buffer.copy_(buffer + 1 - rank)
    whole = {} if rank else dict(model.state_dict())
    before = {name: tensor.clone() for name, tensor in whole.items()}
    shard(model, init_device_mesh("cpu", (2,)), _precision("32-true"))
    fill_from_first(model, whole, torch.device("cpu"))
    own = sum(weight.to_local().numel() for weight in model.parameters() if isinstance(weight, DTensor))
    after = {name: _full(tensor) for name, tensor in model.state_dict().items()}
    torch.save([before, after, dict(model.named_buffers()), own], Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def test_each_process_gets_its_shards_of_the_weights_of_the_first(
    tiny_config: Callable[..., Config], vocabulary: TagVocabulary, tmp_path: Path
) -> None:
    """With weights that are shared (captions=hf), and buffers that are counted (resnet) or drawn (performer)."""
    config = tiny_config("visual=resnet", "fusion=cross", "attention=performer", "captions=hf")
    multiprocessing.spawn(_process, (config, vocabulary, str(tmp_path)), nprocs=2)
    (before, first, buffers, own), (_, second, others, rest) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert before.keys() == first.keys() == second.keys()
    assert all(
        torch.equal(first[name], weight) and torch.equal(second[name], weight) for name, weight in before.items()
    )
    assert buffers.keys() == others.keys() and len(buffers) > len(before.keys() & buffers.keys()) > 0
    assert all(torch.equal(others[name], buffer) for name, buffer in buffers.items())
    assert 0.8 < own / rest < 1.25
