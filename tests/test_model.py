"""The whole model under every choice of parts: any batch, any missing modality, gradients to every part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmattn.config.compose import group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.model import build_model
from mmattn.types import Batch

CHOICES = [
    (f"{group}={name}",)
    for group in ("visual", "audio", "attention", "fusion", "task")
    for name in group_choices(group)
    if name not in ("none", "prompted")
]
CHOICES += [("task=none", "captions=transformer"), ("captions=transformer", "captions.tokenizer.kind=word")]
CHOICES += [("captions=hf",), ("captions=hf", "captions.reads=cross")]


@pytest.mark.parametrize("overrides", CHOICES, ids=",".join)
def test_any_choice_learns_from_clips_whatever_they_lack(
    overrides: tuple[str, ...], tiny_model: Callable, tiny_config: Callable, make_batch: Callable
) -> None:
    model = tiny_model(*overrides).train()
    rate = tiny_config(*overrides)["data"]["clip"]["sample_rate"]
    batch: Batch = make_batch(4, lengths=[1.0, 0.5, 1.0, 1.0], missing={2: "video", 3: "audio"}, rate=rate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        fused = model.fuse(*model.encode(batch))
        loss = model.task.loss(model.task(fused), batch)["loss"]
        if model.captions:
            loss = loss + model.captions.loss(fused, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("fusion", group_choices("fusion"))
def test_a_clip_gets_the_same_logits_whatever_it_is_batched_with(
    fusion: str, tiny_model: Callable, make_batch: Callable
) -> None:
    model, batch = tiny_model(f"fusion={fusion}"), make_batch(4, lengths=[1.0, 0.5, 0.2, 1.0], missing={3: "audio"})
    together = model(batch)
    for clip in range(4):
        part = slice(clip, clip + 1)
        tensors = {name: value[part] for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        alone = model(Batch(**tensors, ids=batch.ids[part]))
        torch.testing.assert_close(alone[0], together[clip], rtol=0, atol=2e-5)


def test_a_batch_moves_whole(make_batch: Callable) -> None:
    batch = make_batch(2)
    moved = batch.to("meta")
    assert len(moved) == 2
    assert moved.ids == batch.ids
    assert {value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)} == {"meta"}
    assert moved.targets["tags"].device.type == "meta"
    assert batch.frames.device.type == "cpu"


@pytest.mark.parametrize(
    ("override", "says"),
    [("heads=3", "heads"), ("visual.kernel=4", "odd"), ("visual.widths=3", "expected a list"), ("heads=16", "odd")],
)
def test_a_part_that_does_not_fit_is_a_usage_error(
    override: str, says: str, tiny_config: Callable, vocabulary: TagVocabulary
) -> None:
    with pytest.raises(UsageError, match=says) as error:
        build_model(tiny_config(override), vocabulary)
    assert "\n" not in str(error.value)
