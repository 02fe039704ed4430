"""What balances modalities: known answers for the modulation, and each modality alone in the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.modality_balance.ogm_ge import OgmGe
from mmattn.training.modality_balance.unimodal_losses import UnimodalLosses
from mmattn.training.optim.adamw import AdamWOneCycle
from mmattn.training.optim.gradients import encoders
from mmattn.types import Batch, Fused


def _step(model: AVModel, balance: OgmGe, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, float]:
    """One training step, as the module takes it."""
    optimizer.zero_grad()
    video, audio = model.encode(batch)
    model.task.loss(model.task(model.fuse(video, audio)), batch)["loss"].backward()
    balance.terms(model, video, audio, batch)
    factors = balance.before_step(model, optimizer, step=0)
    optimizer.step()
    return factors


def _sgd(model: AVModel, lr: float) -> torch.optim.Optimizer:
    groups = [{"params": list(encoder.parameters()), "part": name} for name, encoder in encoders(model).items()]
    rest = [p for part in (model.fusion, model.task) for p in part.parameters()]
    return torch.optim.SGD([*groups, {"params": rest, "part": "rest"}], lr=lr)


def test_the_factor_is_the_papers() -> None:
    balance = OgmGe(alpha=0.5, noise=0.0, seed=0)
    assert balance.factors(3.0, 2.0) == {"video": pytest.approx(1 - math.tanh(0.5 * 1.5)), "audio": 1.0}
    assert balance.factors(1.0, 4.0) == {"video": 1.0, "audio": pytest.approx(1 - math.tanh(0.5 * 4))}
    assert balance.factors(2.0, 2.0) == {"video": 1.0, "audio": 1.0}
    assert balance.factors(0.0, 0.0) == balance.factors(1.0, 0.0) == {"video": 1.0, "audio": 1.0}, "no clip has both"


@pytest.mark.parametrize("fusion", ["late", "cross", "bottleneck", "gated"])
def test_under_sgd_the_encoder_that_is_ahead_takes_k_of_its_gradient(
    fusion: str, tiny_model: Callable, make_batch: Callable
) -> None:
    batch = make_batch(4)
    plain, modulated = tiny_model(f"fusion={fusion}"), tiny_model(f"fusion={fusion}")
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    _step(plain, OgmGe(1e-9, 0.0, 0), _sgd(plain, 0.1), batch)
    k = _step(modulated, OgmGe(0.7, 0.0, 0), _sgd(modulated, 0.1), batch)
    assert min(k.values()) < 1 and max(k.values()) == 1
    for name, weight in modulated.state_dict().items():
        side = {"visual": k["balance/video"], "audio": k["balance/audio"]}.get(name.split(".")[0], 1.0)
        expected = before[name] + side * (plain.state_dict()[name] - before[name])
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_adam_feels_it_too(tiny_model: Callable, make_batch: Callable) -> None:
    """A scaled gradient would leave Adam's first step as it was; a scaled rate does not."""
    batch = make_batch(4)
    plain, modulated = tiny_model("fusion=cross"), tiny_model("fusion=cross")
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    build = AdamWOneCycle(lr=1e-2, weight_decay=0.0, warmup=0.0).build
    _step(plain, OgmGe(1e-9, 0.0, 0), build(plain, 10)[0], batch)
    optimizer, schedule = build(modulated, 10)
    rates = [group["lr"] for group in optimizer.param_groups]
    k = _step(modulated, OgmGe(0.7, 0.0, 0), optimizer, batch)
    ahead = min(k, key=lambda name: k[name])
    part = {"balance/video": "visual", "balance/audio": "audio"}[ahead]
    for name, weight in modulated.state_dict().items():
        if name.startswith(part):
            expected = before[name] + k[ahead] * (plain.state_dict()[name] - before[name])
            torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)
    schedule.step()
    again = [group["lr"] for group in optimizer.param_groups]
    assert all(b == pytest.approx(a * again[-1] / rates[-1]) for a, b in zip(rates, again, strict=True)), "not for good"


def test_noise_is_as_wide_as_the_gradient_the_same_on_every_process_and_not_shrunk(
    tiny_model: Callable, make_batch: Callable
) -> None:
    batch = make_batch(4)
    steps = {}
    for noise, scramble in ((0.0, 0), (1.0, 1), (1.0, 2)):
        model = tiny_model("fusion=cross")
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        model.zero_grad()
        torch.manual_seed(scramble)  # the process' own stream does not matter
        k = _step(model, OgmGe(0.7, noise, seed=3), _sgd(model, 1.0), batch)
        steps[noise, scramble] = {name: weight - before[name] for name, weight in model.state_dict().items()}
    plain, noisy = steps[0.0, 0], steps[1.0, 1]
    assert all(torch.equal(noisy[name], steps[1.0, 2][name]) for name in noisy)
    for name, step in plain.items():
        added = noisy[name] - step
        if name.startswith(("visual", "audio")) and step.ndim >= 2 and step.numel() >= 100 and step.std() > 0:
            side = k["balance/video" if name.startswith("visual") else "balance/audio"]
            assert float(added.std()) == pytest.approx(float(step.std()) / side, rel=0.25), name
        elif not name.startswith(("visual", "audio")) or step.ndim < 2:
            assert not added.any(), name


def test_only_clips_with_both_modalities_tell_who_is_ahead(tiny_model: Callable, make_batch: Callable) -> None:
    model, balance = tiny_model("fusion=cross"), OgmGe(0.5, 0.0, 0)
    both = make_batch(2)
    balance.terms(model, *model.encode(both), both)
    expected = balance.sums
    balance.sums = None
    some = make_batch(2)
    lacking = make_batch(4, missing={2: "audio", 3: "video"})
    stacked = replace(lacking, frames=torch.cat([some.frames, lacking.frames[2:]]),
                      spectrogram=torch.cat([some.spectrogram, lacking.spectrogram[2:]]))  # fmt: skip
    balance.terms(model, *model.encode(stacked), stacked)
    assert expected is not None and balance.sums is not None
    torch.testing.assert_close(balance.sums, expected, rtol=0, atol=1e-5)
    balance.terms(model, *model.encode(both), both)
    torch.testing.assert_close(balance.sums, 2 * expected, rtol=0, atol=1e-5)  # batches of one step add up


def test_unimodal_losses_are_the_models_own_without_the_other_modality(
    tiny_model: Callable, make_batch: Callable
) -> None:
    model, batch = tiny_model("fusion=cross"), make_batch(4, missing={1: "audio"})
    terms = UnimodalLosses(0.25).terms(model, *model.encode(batch), batch)
    blind = replace(batch, frame_keep=torch.zeros_like(batch.frame_keep))
    silent = replace(batch, spectrogram_keep=torch.zeros_like(batch.spectrogram_keep))
    hearing = replace(blind, real=torch.tensor([True, False, True, True]))  # clip 1 has no sound to answer from
    expected = {
        "loss_video": 0.25 * model.task.loss(model(silent), silent)["loss"],
        "loss_audio": 0.25 * model.task.loss(model(hearing), hearing)["loss"],
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=0, atol=1e-6)
    terms["loss_video"].backward()
    assert any(w.grad is not None and w.grad.abs().sum() > 0 for w in model.visual.parameters())
    assert not any(w.grad is not None and w.grad.abs().sum() > 0 for w in model.audio.parameters())


def test_unimodal_losses_are_those_of_captions_too(tiny_model: Callable, make_batch: Callable) -> None:
    class Says(nn.Module):
        def loss(self, fused: Fused, batch: Batch) -> Tensor:
            return (fused.audio.values.square().mean(dim=(1, 2)) * batch.real).sum()

    model, batch = tiny_model("fusion=cross"), make_batch(4, missing={1: "audio"})
    plain = UnimodalLosses(0.25).terms(model, *model.encode(batch), batch)
    model.captions = Says()
    both = UnimodalLosses(0.25).terms(model, *model.encode(batch), batch)
    blind = replace(batch, frame_keep=torch.zeros_like(batch.frame_keep))
    heard = model.fuse(*model.encode(blind)).audio.values.square().mean(dim=(1, 2))[[0, 2, 3]].sum()
    torch.testing.assert_close(both["loss_audio"] - plain["loss_audio"], 0.25 * heard, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [lambda: UnimodalLosses(0.0), lambda: OgmGe(0.0, 1.0, 0), lambda: OgmGe(0.1, -1, 0)])
def test_wrong_settings_are_refused(wrong: Callable) -> None:
    with pytest.raises(UsageError, match="modality_balance"):
        wrong()
