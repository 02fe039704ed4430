"""Additive attention against the formula of its paper, one number after another in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.scores import additive
from mmattn.attention.scores.additive import AdditiveAttention, additive_scores

B, H, LQ, LK, D = 2, 2, 4, 7, 6
SEGMENTS = (("video", 3), ("audio", 4))
ALL = AdditiveAttention.supports


def _inputs() -> tuple[Tensor, Tensor, Tensor, Geometry]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK))
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 2], keep[1, 4:] = False, False
    return q, k, v, Geometry(keep, torch.rand(B, LK, generator=generator, dtype=torch.float64), SEGMENTS)


def _loop(w: Tensor, q: Tensor, k: Tensor, keep: Tensor) -> Tensor:
    weights = torch.zeros(B, H, LQ, LK, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(LQ):
                for j in range(LK):
                    if keep[b, j]:
                        score = sum(float(w[h, d]) * math.tanh(q[b, h, i, d] + k[b, h, j, d]) for d in range(D))
                        weights[b, h, i, j] = math.exp(score)
    return weights / weights.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("chunk", [additive.CHUNK_SCORES, 2 * B * H * LK], ids=["whole", "in chunks"])
def test_it_computes_its_definition_and_its_statistics(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additive, "CHUNK_SCORES", chunk)
    attention = AdditiveAttention(H, D).double().requires_grad_(False)
    q, k, v, keys = _inputs()
    assert keys.keep is not None
    assert keys.time is not None
    weights = _loop(attention.score, q, k, keys.keep)
    result = attention(q, k, v, Geometry(), keys, ALL)
    expected = {
        "weights": weights,
        "mass": torch.stack([part.sum(-1) for part in weights.split([3, 4], dim=-1)], -1),
        "mean_time": (weights * keys.time[:, None, None]).sum(-1),
        "entropy": -torch.xlogy(weights, weights).sum(-1),
    }
    torch.testing.assert_close(result.out, weights @ v, rtol=0, atol=1e-12)
    assert set(result.stats) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(result.stats[name], value, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("tile", [1, 3 * B * H * D, 1 << 20], ids=["one pair", "part of a row", "all"])
def test_tiles_change_neither_scores_nor_gradients(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(additive.TILE_ELEMENTS, "cpu", tile)
    q, k, _, _ = (x.requires_grad_() if isinstance(x, Tensor) else x for x in _inputs())
    w = torch.randn(H, D, dtype=torch.float64, requires_grad=True)
    plain = (torch.tanh(q[:, :, :, None] + k[:, :, None]) * w[:, None, None]).sum(-1) + w.sum(-1)[:, None, None]
    torch.testing.assert_close(additive_scores(q, k, w), plain, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(additive_scores, (q, k, w))


def test_chunks_made_again_for_the_backward_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = AdditiveAttention(H, D).double()
    q, k, v, keys = _inputs()

    def gradients() -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        result = attention(*leaves, Geometry(), keys, frozenset({"mass", "entropy"}))
        loss = result.out.square().sum() + result.stats["mass"].square().sum() + result.stats["entropy"].sum()
        return list(torch.autograd.grad(loss, [*leaves, attention.score]))

    whole = gradients()
    monkeypatch.setattr(additive, "CHUNK_SCORES", B * H * LK)
    for ours, theirs in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
