"""Where all tokens are known to be real no mask reaches the kernel, so that the fastest ones can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.backends import sdpa
from mmattn.config.compose import build
from mmattn.types import Batch, Tokens

FUSIONS = ("cross", "gated", "film", "bottleneck", "perceiver", "adapter")


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """What PyTorch's kernel is handed from here on."""
    given: list[Tensor | None] = []
    right = sdpa.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
        given.append(attn_mask)
        return right(q, k, v, attn_mask=attn_mask, scale=scale)

    for masked in (True, False):
        sdpa.trusted("cpu", torch.float32, masked, False)  # the trial is no use
    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", spy)
    return given


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_of_full_streams_masks_nothing_and_gives_the_same(
    name: str, tiny_config: Callable, make_tokens: Callable, masks: list
) -> None:
    torch.manual_seed(0)
    fusion = build(tiny_config(f"fusion={name}", "attention=dense")["fusion"]).eval()
    streams = make_tokens(2, 12, seed=1), make_tokens(2, 20, seed=2)
    masked = fusion(*streams)
    assert masks
    assert all(mask is not None for mask in masks)
    masks.clear()
    plain = fusion(*(replace(stream, full=True) for stream in streams))
    assert masks
    assert all(mask is None for mask in masks)
    for one, other in ((plain.video, masked.video), (plain.audio, masked.audio)):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-5)
        assert one.full


@pytest.mark.parametrize("name", FUSIONS)
def test_one_stream_with_padding_is_masked(
    name: str, tiny_config: Callable, make_tokens: Callable, masks: list
) -> None:
    fusion = build(tiny_config(f"fusion={name}", "attention=dense")["fusion"]).eval()
    video, audio = (replace(make_tokens(2, n, seed=n), full=True) for n in (12, 20))
    fusion(video, audio.without(torch.tensor([False, True])))
    assert any(mask is not None for mask in masks)


def test_a_batch_knows_which_masks_are_full_and_forgets_it_with_the_mask(make_batch: Callable) -> None:
    batch: Batch = make_batch()
    whole = replace(
        batch,
        frame_keep=torch.ones_like(batch.frame_keep),
        spectrogram_keep=torch.ones_like(batch.spectrogram_keep),
        waveform_keep=torch.ones_like(batch.waveform_keep),
    )
    assert whole.full == {"frame_keep", "spectrogram_keep", "waveform_keep"}
    assert whole.to("cpu").full == whole.full
    on_device = whole.to("meta")  # as on a GPU, where a look at the mask would wait
    assert on_device.full == whole.full
    holed = whole.frame_keep.clone()
    holed[0, -1] = False
    assert "frame_keep" not in replace(whole, frame_keep=holed).full
    assert not replace(on_device, frame_keep=on_device.frame_keep).full, "what cannot be looked at is not known"
    assert make_batch(missing={0: "audio"}).full == {"frame_keep"}


@pytest.mark.parametrize("choice", ["visual=tiny", "visual=conv3d", "audio=tiny", "audio=spectrogram"])
def test_an_encoder_says_that_all_are_real_only_where_they_are(
    choice: str, tiny_config: Callable, make_batch: Callable
) -> None:
    group = choice.split("=")[0]
    encoder = build(tiny_config(choice)[group]).eval()
    batch: Batch = make_batch(lengths=[1.0, 0.5])
    name = "frame_keep" if group == "visual" else "spectrogram_keep"
    for keep in (torch.ones_like(getattr(batch, name)), getattr(batch, name)):
        given = replace(batch, **{name: keep})
        tokens: Tokens = encoder(given)
        assert tokens.full == bool(keep.all())
        assert not tokens.full or tokens.keep.all()
