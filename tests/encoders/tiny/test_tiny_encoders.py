"""The built-in encoders: shapes and times, and padding that never leaks. Ready-made networks: test_adapters.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mmattn.config.compose import build
from mmattn.encoders.tiny.temporal import StridedConv, TemporalBlock
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens

VARIANTS = [("visual=tiny",), ("visual=conv3d",), ("audio=tiny",), ("audio=tiny", "audio.centred=true")]
CLIPS, FRAMES, ROWS = 3, 5, 22


@pytest.fixture(params=VARIANTS, ids=",".join)
def variant(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.fixture
def modality(variant: tuple[str, ...]) -> str:
    return "video" if variant[0].startswith("visual") else "audio"


@pytest.fixture
def encoder(variant: tuple[str, ...], tiny_config: Callable) -> torch.nn.Module:
    torch.manual_seed(2)
    return build(tiny_config(*variant)[variant[0].partition("=")[0]]).eval()


def _clips(batch: Batch, which: slice) -> Batch:
    tensors = {name: value[which] for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return Batch(**tensors, ids=batch.ids[which])


def _padded(batch: Batch, frames: int, rows: int) -> Batch:
    """More padding behind, filled with what would be noticed."""
    clips = len(batch)

    def longer(name: str, more: int, value: float) -> torch.Tensor:
        tensor = getattr(batch, name)
        return torch.cat([tensor, tensor.new_full((clips, more, *tensor.shape[2:]), value)], dim=1)

    return replace(
        batch,
        frames=longer("frames", frames, 255),
        frame_keep=longer("frame_keep", frames, False),
        frame_times=longer("frame_times", frames, 9.0),
        spectrogram=longer("spectrogram", rows, 50.0),
        spectrogram_keep=longer("spectrogram_keep", rows, False),
        spectrogram_times=longer("spectrogram_times", rows, 9.0),
    )


def test_tokens_have_the_width_and_the_times_of_what_they_show(
    encoder: torch.nn.Module, modality: str, make_batch: Callable
) -> None:
    batch = make_batch(CLIPS, FRAMES, ROWS)
    tokens = encoder(batch)
    clips, length, dim = tokens.values.shape
    assert (clips, dim) == (CLIPS, encoder.dim)
    assert tokens.keep.shape == tokens.times.shape == (CLIPS, length)
    assert tokens.keep.dtype == torch.bool
    assert tokens.keep.all()
    assert tokens.values.isfinite().all()
    assert (tokens.times.diff(dim=1) >= 0).all()
    source = batch.frame_times if modality == "video" else batch.spectrogram_times
    assert tokens.times.min() >= source.min()
    assert tokens.times.max() <= source.max()
    assert tokens.times.max() > source.max() * 0.8


def test_a_change_late_in_a_clip_is_seen_in_late_tokens(
    encoder: torch.nn.Module, modality: str, make_batch: Callable
) -> None:
    """Token times tell the truth: the middle of what changes is at the time of the change."""
    batch = make_batch(1, 33, 129)
    changed = make_batch(1, 33, 129)
    if modality == "video":
        changed.frames[:, 20] = 255 - changed.frames[:, 20]
        time = float(batch.frame_times[0, 20])
    else:
        changed.spectrogram[:, 80] += 5
        time = float(batch.spectrogram_times[0, 80])
    moved = (encoder(changed).values - encoder(batch).values).square().sum(dim=2)[0].square()
    at = float(((moved * encoder(batch).times[0]).sum() / moved.sum()).detach())
    assert at == pytest.approx(time, abs=0.1 if modality == "video" else 0.03)


def test_a_clip_has_the_same_tokens_alone_in_a_batch_and_with_more_padding(
    encoder: torch.nn.Module, make_batch: Callable
) -> None:
    batch = make_batch(CLIPS, FRAMES, ROWS, lengths=[1.0, 0.6, 0.4])
    together = encoder(batch)
    longer = encoder(_padded(batch, 3, 10))
    for clip in range(CLIPS):
        real = together.keep[clip]
        alone = encoder(_clips(batch, slice(clip, clip + 1)))
        torch.testing.assert_close(alone.values[0], together.values[clip], rtol=0, atol=2e-5)
        more = longer.values[clip][longer.keep[clip]]
        torch.testing.assert_close(more, together.values[clip][real], rtol=0, atol=2e-5)
        assert torch.equal(longer.times[clip][longer.keep[clip]], together.times[clip][real])


def test_what_padding_holds_changes_nothing(encoder: torch.nn.Module, make_batch: Callable) -> None:
    batch = make_batch(CLIPS, FRAMES, ROWS, lengths=[1.0, 0.6, 0.4])
    other = make_batch(CLIPS, FRAMES, ROWS, lengths=[1.0, 0.6, 0.4], seed=5)
    frames = torch.where(batch.frame_keep[..., None, None, None], batch.frames, other.frames)
    rows = torch.where(batch.spectrogram_keep[..., None], batch.spectrogram, other.spectrogram)
    torch.testing.assert_close(
        encoder(replace(batch, frames=frames, spectrogram=rows)).values, encoder(batch).values, rtol=0, atol=1e-6
    )


def test_a_missing_modality_has_no_tokens_and_stays_finite(
    encoder: torch.nn.Module, modality: str, make_batch: Callable
) -> None:
    batch = make_batch(CLIPS, FRAMES, ROWS, missing={1: modality})
    tokens: Tokens = encoder(batch)
    assert tokens.present.tolist() == [True, False, True]
    assert tokens.values.isfinite().all()
    assert not tokens.values[1].any(), "nothing downstream may read a missing stream's values"
    tokens.values.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_gradients_reach_every_parameter(encoder: torch.nn.Module, make_batch: Callable) -> None:
    tokens = encoder(make_batch(CLIPS, FRAMES, ROWS, lengths=[1.0, 0.6, 0.4]))
    (tokens.values * torch.randn_like(tokens.values)).sum().backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]


def test_a_strided_convolution_keeps_tokens_centred_on_their_times() -> None:
    conv = StridedConv(1, 4, 5, 2).eval()
    x, keep = torch.zeros(1, 9, 1), torch.ones(1, 9, dtype=torch.bool)
    impulse = x.clone()
    impulse[0, 4] = 1
    moved = (conv(impulse, keep) - conv(x, keep)).abs().sum(-1)[0] > 1e-6
    assert moved.tolist() == [False, True, True, True, False]
    assert conv.subsample(torch.arange(9)[None]).tolist() == [[0, 2, 4, 6, 8]]


@pytest.mark.parametrize("make", [lambda: StridedConv(1, 4, 4, 2), lambda: TemporalBlock(4, 4, 0.0)])
def test_an_even_kernel_is_refused(make: Callable) -> None:
    with pytest.raises(ValueError, match="odd"):
        make()


@pytest.mark.parametrize(("variant", "source"), [("visual=conv3d", "frames"), ("audio=tiny", "spectrogram")])
def test_a_centred_encoder_hears_what_changes_and_not_what_is_always_there(
    variant: str, source: str, tiny_config: Callable, make_batch: Callable
) -> None:
    """Half of each clip is padding, which the mean must leave out."""
    group = variant.partition("=")[0]
    more = ["audio.centred=true"] if group == "audio" else []
    encoder = build(tiny_config(variant, *more)[group]).eval()
    batch = make_batch(2, 8, 32, lengths=[0.5, 1.0])
    if source == "frames":
        batch = replace(batch, frames=batch.frames // 2)
    moved = replace(batch, **{source: getattr(batch, source) + 40})
    torch.testing.assert_close(encoder(moved).values, encoder(batch).values, rtol=0, atol=1e-4)
    other = replace(batch, **{source: getattr(batch, source).flip(1)})
    assert (encoder(other).values - encoder(batch).values)[1].abs().mean() > 0.1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("visual.region=[0.5,0,0.4,1]", "top, left, bottom, right"),
        ("visual.kernel=[4,7,7]", "odd"),
        ("visual.widths=[12,24]", "multiples of 8"),
    ],
)
def test_what_conv3d_cannot_be_is_said(settings: str, problem: str, tiny_config: Callable) -> None:
    with pytest.raises(UsageError, match=problem):
        build(tiny_config("visual=conv3d", settings)["visual"])


def test_conv3d_looks_at_its_region_alone_and_may_give_a_token_for_two_frames(
    tiny_config: Callable, make_batch: Callable
) -> None:
    settings = ("visual.region=[0.25,0.5,0.75,1.0]", "visual.stride=[2,2,2]")
    encoder = build(tiny_config("visual=conv3d", *settings)["visual"]).eval()
    batch = make_batch(2, 7, 8, lengths=[1.0, 0.5])
    tokens = encoder(batch)
    assert torch.equal(tokens.times, batch.frame_times[:, ::2])
    assert tokens.keep.tolist() == [[True] * 4, [True, True, False, False]]
    inside, outside = batch.frames.clone(), batch.frames.clone()
    inside[..., 6, 10] = 255 - inside[..., 6, 10]
    outside[..., :4, :] = outside[..., :, :8] = outside[..., 12:, :] = 7
    assert torch.equal(encoder(replace(batch, frames=outside)).values, tokens.values)
    assert not torch.allclose(encoder(replace(batch, frames=inside)).values, tokens.values)
