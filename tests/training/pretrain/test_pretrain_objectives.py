"""Objectives without labels: InfoNCE against its definition and over two processes, what masking hides and asks for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from mmattn.config.compose import compose
from mmattn.errors import UsageError
from mmattn.training.pretrain.cav_mae import CavMae
from mmattn.training.pretrain.contrastive import Contrastive, gather
from mmattn.training.pretrain.mae import Masked
from mmattn.types import Tokens

DIM = 16


def _tokens(seed: int, clips: int = 4) -> Tokens:
    values = torch.randn(clips, 5, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    keep = torch.arange(5) < torch.tensor([5, 4, 3, 5, 2, 5][:clips])[:, None]
    return Tokens(values, keep, torch.zeros(clips, 5))


def _contrastive() -> Contrastive:
    torch.manual_seed(3)
    return Contrastive(DIM, embed=8).double()


def test_infonce_is_as_the_paper_defines_it() -> None:
    """-(1/2N) sum_i [log softmax_j(v_i a_j / t)_i + log softmax_j(a_i v_j / t)_i], over clips that have both."""
    objective, video, audio = _contrastive(), _tokens(1), _tokens(2)
    audio = audio.without(torch.tensor([False, False, True, False]))
    found = objective.compare(video, audio, torch.ones(4, dtype=torch.bool))
    v, a = (
        torch.stack([project(t.values[i][t.keep[i]].mean(dim=0)) for i in (0, 1, 3)])
        for t, project in ((video, objective.video), (audio, objective.audio))
    )
    v, a = v / v.norm(dim=1, keepdim=True), a / a.norm(dim=1, keepdim=True)
    logits = v @ a.T / 0.07
    terms = [logits[i, i] - torch.logsumexp(row[i], 0) for i in range(3) for row in (logits, logits.T)]
    torch.testing.assert_close(found["loss"].double(), -torch.stack(terms).sum() / 6, rtol=1e-4, atol=1e-5)
    assert found["temperature"].item() == pytest.approx(0.07)
    assert found["retrieved"].item() == pytest.approx(
        sum((m.argmax(dim=1) == torch.arange(3)).sum().item() for m in (logits, logits.T)) / 6
    )


def test_a_batch_without_a_whole_clip_has_no_loss_and_a_gradient() -> None:
    objective, video = _contrastive(), _tokens(1)
    loss = objective.compare(video, _tokens(2), torch.zeros(4, dtype=torch.bool))["loss"]
    loss.backward()
    assert loss.item() == 0 and all(w.grad is None or not w.grad.any() for w in objective.parameters())


def _rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    objective = _contrastive()
    whole = [_tokens(seed, clips=6) for seed in (1, 2)]
    parts = [Tokens(t.values[rank::2], t.keep[rank::2], t.times[rank::2]) for t in whole]
    real = torch.tensor([True, True, True, True, False, True])[rank::2]
    found = objective.compare(*parts, real)
    found["loss"].backward()
    for weight in objective.parameters():  # as DDP does
        distributed.all_reduce(weight.grad)
        weight.grad /= 2
    mean = found["loss"].detach().clone()
    distributed.all_reduce(mean)
    order = gather(torch.arange(3)[:, None] + 10 * rank)
    torch.save([mean / 2, order, *(w.grad for w in objective.parameters())], Path(folder) / f"{rank}.pt")
    parts = [Tokens(t.values[rank:5:2], t.keep[rank:5:2], t.times[rank:5:2]) for t in whole]  # three and two clips
    validated = objective.eval().compare(*parts, real[: len(parts[0].values)])
    torch.save(validated, Path(folder) / f"validated{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_loss_and_gradients_of_the_whole_batch() -> None:
    """Negatives come from all processes, and gradients flow back to where they came from."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_rank, (folder,), nprocs=2)
        results = [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
        validated = [torch.load(Path(folder) / f"validated{rank}.pt", weights_only=True) for rank in (0, 1)]
    objective = _contrastive()
    real = torch.tensor([True, True, True, True, False, True])
    loss = objective.compare(_tokens(1, clips=6), _tokens(2, clips=6), real)["loss"]
    loss.backward()
    for mean, order, *gradients in results:
        assert order[:, 0].tolist() == [0, 1, 2, 10, 11, 12]
        torch.testing.assert_close(mean, loss.detach(), rtol=1e-5, atol=1e-6)
        for gradient, weight in zip(gradients, objective.parameters(), strict=True):
            torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-6)
    five = objective.eval().compare(_tokens(1, clips=5), _tokens(2, clips=5), real[:5])
    for name in ("loss", "retrieved"):  # of a last batch that does not divide
        mean = torch.stack([part[name].double() for part in validated]).mean()
        torch.testing.assert_close(mean, five[name].detach().double(), rtol=1e-5, atol=1e-6)


@pytest.fixture
def make_batch(make_batch: Callable) -> Callable:
    """Without waveforms, in which nothing could be hidden."""
    return lambda *sizes, **more: replace(make_batch(*sizes, **more), waveform=None, waveform_keep=None)


@pytest.fixture
def masked() -> Masked:
    return Masked(DIM, 2, patch=4, rows=8, bands=6, video_ratio=0.5, audio_ratio=0.5, layers=1)


def test_hidden_patches_are_covered_the_rest_stays_and_their_values_are_kept(
    masked: Masked, make_batch: Callable
) -> None:
    batch = make_batch(2, frames=4, rows=24, lengths=[1.0, 0.5])  # 16 x 16 pixels, 12 bands
    covered, hidden = masked.hide(batch, torch.Generator().manual_seed(0))
    video, audio = hidden["video"], hidden["audio"]
    assert video.values.shape == (2, 4 * 8, 3 * 16) and audio.values.shape == (2, 3, 48)
    for clip in range(2):
        restored = covered.frames.clone()
        for n, place in enumerate(video.places[clip].tolist()):
            frame, down, across = n // 8, place // 4 * 4, place % 4 * 4
            patch = restored[clip, frame, :, down : down + 4, across : across + 4]
            assert (patch == 127).all(), "covered"
            patch.copy_((video.values[clip, n] * 255).round().view(3, 4, 4))
            assert video.times[clip, n] == batch.frame_times[clip, frame]
        assert torch.equal(restored[clip], batch.frames[clip]), "nothing else is"
    assert torch.equal(video.real[1], torch.arange(4).repeat_interleave(8) < 2)
    cells = [(s, u) for s in range(3) for u in range(2)]
    for clip in range(2):
        zero = [(s, u) for s, u in cells
                if not covered.spectrogram[clip, 8 * s : 8 * s + 8, 6 * u : 6 * u + 6].any()]  # fmt: skip
        assert len(zero) == 3
        for n, (s, u) in enumerate(zero):
            expected = batch.spectrogram[clip, 8 * s : 8 * s + 8, 6 * u : 6 * u + 6]
            assert torch.equal(audio.values[clip, n].view(8, 6), expected) and audio.places[clip, n] == u
    assert not audio.real[1][audio.times[1] >= 0.12].any() and audio.real[0].all()


def test_the_loss_is_of_real_hidden_patches_and_teaches_encoders_fusion_and_decoder(
    masked: Masked, make_batch: Callable, tiny_model: Callable
) -> None:
    model, batch = tiny_model("fusion=cross"), make_batch(2, frames=4, rows=24, lengths=[1.0, 0.5])
    generator = torch.Generator().manual_seed(0)
    covered, hidden = masked.hide(batch, generator)
    loss = masked.restore(model.fuse(*model.encode(covered)), hidden, batch)["loss"]
    for part in hidden.values():  # padding may be anything
        part.values[~part.real] = 1e6
    again = masked.restore(model.fuse(*model.encode(covered)), hidden, batch)["loss"]
    assert torch.equal(loss, again) and math.isfinite(loss.item())
    loss.backward()
    for module in (model.visual, model.audio, model.fusion, masked.blocks, masked.read, masked.place):
        assert all(w.grad is not None and w.grad.isfinite().all() for w in module.parameters())
        assert any(w.grad.any() for w in module.parameters())


def test_a_step_on_the_masked_loss_lowers_it(masked: Masked, make_batch: Callable, tiny_model: Callable) -> None:
    model, batch = tiny_model("fusion=late"), make_batch(4, frames=4, rows=24)
    optimizer = torch.optim.Adam([*model.parameters(), *masked.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = masked(model, batch, torch.Generator().manual_seed(0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_both_losses_are_one_step(masked: Masked, make_batch: Callable, tiny_model: Callable) -> None:
    both = CavMae(masked, Contrastive(DIM), contrast=0.5)
    terms = both(tiny_model("fusion=late"), make_batch(4), torch.Generator().manual_seed(0))
    assert terms["loss"].item() == pytest.approx(terms["loss_masked"].item() + 0.5 * terms["loss_contrast"].item())
    assert terms["loss_masked"].item() == pytest.approx((terms["loss_video"] + terms["loss_audio"]).item())


def test_a_clip_that_lacks_a_modality_does_no_harm(masked: Masked, make_batch: Callable, tiny_model: Callable) -> None:
    for objective in (masked, Contrastive(DIM)):
        terms = objective(tiny_model("fusion=late"), make_batch(2, missing={0: "audio", 1: "video"}))
        assert all(value.isfinite() for value in terms.values())


def test_more_patches_than_places_are_told(make_batch: Callable) -> None:
    masked = Masked(DIM, 2, patch=4, rows=8, bands=6, places=15)  # of 16 x 16 pixels
    with pytest.raises(UsageError, match=r"16 patches of 4 pixels.* places=15"):
        masked.hide(make_batch(2, frames=2, rows=24), None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Masked(DIM, 2, video_ratio=1.0),
        lambda: Contrastive(DIM, temperature=0.0),
        lambda: Masked(DIM, 2, patch=0),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="pretrain"):
        wrong()


def test_pictures_that_do_not_divide_are_named(make_batch: Callable) -> None:
    with pytest.raises(UsageError, match="16x16"):
        Masked(DIM, 2, patch=5).hide(make_batch(2), None)


def test_a_waveform_is_refused(make_batch: Callable) -> None:
    heard = replace(make_batch(2), waveform=torch.zeros(2, 8))
    with pytest.raises(UsageError, match="waveform"):
        Masked(DIM, 2, patch=4, rows=8, bands=6).hide(heard, None)


def test_every_choice_composes() -> None:
    for name in ("contrastive", "mae", "cav_mae", "sync"):
        assert compose("train", [f"pretrain={name}", "dim=32"])["pretrain"]
