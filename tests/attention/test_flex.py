"""FlexAttention's masks, on a processor: the same pairs and results as gathered blocks.

Speed and gradients need CUDA: scripts/benchmarks/attention_cuda.py.
"""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask, flex_attention

from mmattn.attention import flex
from mmattn.attention.attend import attend
from mmattn.attention.interface import Geometry
from mmattn.attention.patterns import TimeWindow
from mmattn.attention.places import SlidingWindow

B, H, D = 2, 2, 16
LQ, SEGMENTS = 300, (("video", 0), ("audio", 500), ("latent", 5))
PATTERNS = {
    "time": partial(TimeWindow, past_s=2.5, future_s=1.0),
    "globals": partial(TimeWindow, past_s=0.5, future_s=0.0, global_tokens=2, global_segments=["latent"]),
    "sliding": partial(SlidingWindow, past=200, future=150),
    "nothing": partial(TimeWindow, past_s=0.0, future_s=0.0),
}


def _inputs() -> tuple[tuple[Tensor, ...], Geometry, Geometry]:
    generator = torch.Generator().manual_seed(0)
    lk = sum(count for _, count in SEGMENTS)
    q, k, v = (torch.randn(B, H, n, D, generator=generator) for n in (LQ, lk, lk))
    keep = torch.rand(B, lk, generator=generator) < 0.9
    keep[1, 100:300] = False
    queries = Geometry(torch.rand(B, LQ, generator=generator) < 0.9, torch.rand(B, LQ, generator=generator) * 12)
    return (q, k, v), queries, Geometry(keep, torch.rand(B, lk, generator=generator) * 10, SEGMENTS)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_it_gives_what_gathered_blocks_give(pattern: partial) -> None:
    (q, k, v), queries, keys = _inputs()
    made = pattern(H, D)
    segments = keys.lengths(k.shape[2])
    expected = attend(q, k, v, None, made.plan(q, k, queries, keys), segments, 0.3)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it says that it is slow when it is not compiled
        found = flex.attend(q, k, v, flex.plan(made, q, k, queries, keys), 0.3, kernel=flex_attention)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_tiles_are_called_empty_or_full_only_where_they_are(pattern: partial) -> None:
    """And the mask of an audio segment has both: this is what the speed comes from."""
    (q, k, _), queries, keys = _inputs()
    windows = flex.plan(pattern(H, D), q, k, queries, keys)
    assert windows.masks[0] is None
    for mask, key in zip(windows.masks[1:], windows.keys[1:], strict=True):
        length = key.shape[1]
        pairs = create_mask(mask.mask_mod, B, None, LQ, length, device="cpu")
        tiles = torch.nn.functional.pad(pairs, (0, -length % 128, 0, -LQ % 128)).unflatten(3, (-1, 128))
        tiles = tiles.unflatten(2, (-1, 128)).transpose(3, 4)  # (B, 1, N, M, 128, 128)
        some, whole = _dense(mask.kv_num_blocks, mask.kv_indices), _dense(mask.full_kv_num_blocks, mask.full_kv_indices)
        assert not (some & whole).any()
        assert not tiles.any(5).any(4)[~(some | whole)].any(), "an empty tile holds a pair"
        assert tiles.all(5).all(4)[whole].all(), "a full tile lacks a pair"
        if pattern is PATTERNS["time"] and length == 500:
            assert not (some | whole).all()
        if pattern is PATTERNS["sliding"] and length == 500:
            assert whole.any()


def _dense(number: Tensor, index: Tensor) -> Tensor:
    """The listed tiles as a matrix (B, 1, N, M)."""
    listed = torch.arange(index.shape[-1]) < number[..., None]
    return torch.zeros_like(index, dtype=torch.bool).scatter(3, index.long(), listed)


def test_it_is_for_long_sequences_on_cuda() -> None:
    (q, k, _), *_ = _inputs()
    assert not flex.usable(q, k)
