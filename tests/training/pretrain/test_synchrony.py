"""pretrain=sync: pairs in and out of time differ in nothing but that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mmattn.errors import UsageError
from mmattn.training.pretrain.sync import Synchrony, rolled
from mmattn.types import Batch

DIM = 16


@pytest.fixture
def silent_wave(make_batch: Callable) -> Callable[..., Batch]:
    """Batches without waveforms, which pretrain=sync does not turn."""
    return lambda *sizes, **more: replace(make_batch(*sizes, **more), waveform=None, waveform_keep=None)


def test_what_leaves_at_the_end_comes_in_at_the_start(silent_wave: Callable) -> None:
    batch = silent_wave(2, frames=4, rows=24)
    found = rolled(batch, torch.tensor([1, 0]), torch.tensor([6, 23]))
    assert torch.equal(found.frames[0], batch.frames[0].roll(1, 0)) and torch.equal(found.frames[1], batch.frames[1])
    for clip, by in ((0, 6), (1, 23)):
        assert torch.equal(found.spectrogram[clip], batch.spectrogram[clip].roll(by, 0))
    assert torch.equal(found.frame_times, batch.frame_times)


def test_pairs_in_time_are_turned_alike_and_others_apart_and_neither_stream_tells(silent_wave: Callable) -> None:
    batch = silent_wave(4000, frames=8, rows=64)
    objective = Synchrony(DIM, least_s=0.1)  # 10 of 64 rows
    picture, sound, other = objective._shifts(batch, torch.Generator().manual_seed(0))
    assert torch.equal(sound, picture * 8)
    away = (other - sound) % 64
    assert away.min() >= 10 and away.max() <= 54
    for turn, count in ((picture, 8), (sound // 8, 8), (other % 64 // 8, 8)):
        shares = torch.bincount(turn, minlength=count) / len(turn)
        assert (shares - 1 / count).abs().max() < 0.02, "drawn evenly, in time or not"


def test_the_loss_teaches_encoders_and_fusion_and_falls(silent_wave: Callable, tiny_model: Callable) -> None:
    torch.manual_seed(0)
    model, batch, objective = tiny_model("fusion=cross"), silent_wave(4, frames=4, rows=24), Synchrony(DIM, 0.05)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        terms = objective(model, batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    for module in (model.visual, model.audio, model.fusion, objective.judge):
        assert any(w.grad is not None and w.grad.any() for w in module.parameters())
    assert losses[-1] < 0.5 * losses[0] and terms["right"].item() == 1


def test_clips_that_lack_something_are_not_asked(silent_wave: Callable, tiny_model: Callable) -> None:
    model, objective = tiny_model("fusion=cross"), Synchrony(DIM, 0.05)
    batch = silent_wave(3, rows=24, lengths=[1.0, 0.5, 1.0], missing={2: "audio"})
    alone = silent_wave(3, rows=24, lengths=[1.0, 0.5, 1.0], missing={2: "audio"})
    alone = replace(alone, real=torch.tensor([True, False, False]))
    found, expected = (objective(model, b, torch.Generator().manual_seed(0)) for b in (batch, alone))
    assert found["loss"] == expected["loss"] and found["loss"] > 0
    nothing = objective(model, replace(batch, real=torch.zeros(3, dtype=torch.bool)), torch.Generator().manual_seed(0))
    assert nothing["loss"] == 0


def test_what_cannot_be_turned_is_said(make_batch: Callable, tiny_model: Callable) -> None:
    with pytest.raises(UsageError, match="waveform"):
        Synchrony(DIM)(tiny_model("fusion=late"), make_batch(2))
    with pytest.raises(UsageError, match="least_s"):
        Synchrony(DIM, least_s=0)
