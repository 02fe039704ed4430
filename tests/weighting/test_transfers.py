"""An evaluation brings a batch to the processor in a few transfers, however many clips, layers and heads it has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from mmattn.weighting.evaluation import Evaluation


@pytest.mark.parametrize("clips", [2, 8])
def test_a_batch_comes_in_two_transfers(
    clips: int, tiny_model: Callable, make_batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = tiny_model("fusion=cross").eval(), make_batch(clips)
    seen = Evaluation(model.task.vocabulary)
    moved, cpu = [], Tensor.cpu

    def counting(self: Tensor) -> Tensor:
        moved.append(self.shape)
        return cpu(self)

    monkeypatch.setattr(Tensor, "cpu", counting)
    seen.update(model, batch)
    assert len(moved) == 2  # scores and targets; what the layers looked at
    assert len(seen.clip_scores().ids) == clips and seen.mass.result()
