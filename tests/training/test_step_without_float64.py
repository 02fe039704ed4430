"""A step of training, what it measures and what balances its encoders run on a device without float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmattn.training.distributed.meter import Meter
from mmattn.training.modality_balance.ogm_ge import OgmGe
from mmattn.weighting.descriptive import MassMeter, mass_by_clip
from no_float64 import no_float64

STATS = frozenset({"mass", "mean_time", "entropy"})


@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_a_step_makes_no_float64(
    position: str, tiny_model: Callable, make_batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("fusion=cross", "attention=time_window", f"position={position}")
    batch = make_batch(3, lengths=[1, 0.5, 1], missing={2: "audio"})

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        balance, meter, mass = OgmGe(0.5, 0.0, 0), Meter(), MassMeter()
        video, audio = model.encode(batch)
        fused = model.fuse(video, audio, STATS)
        balance.terms(model, video, audio, batch)
        mass.update(fused.stats)
        loss = sum(model.task.loss(model.task(fused), batch).values())
        loss.backward()
        meter.add({"loss": loss}, batch.real.sum())
        by_clip = mass_by_clip(fused.stats)
        assert by_clip is not None
        return loss.detach(), by_clip.float()

    expected = step()
    with no_float64(monkeypatch):
        found = step()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
