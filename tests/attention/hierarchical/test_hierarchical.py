"""Coarse and fine keys, and merged keys, against their definitions in float64 and where they must be exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.hierarchical.coarse_fine import CoarseFineAttention
from mmattn.attention.hierarchical.token_merging import TokenMergingAttention
from mmattn.attention.interface import Attention, Geometry

B, H, LQ, LK, D = 2, 2, 5, 14, 4
SEGMENTS = (("video", 6), ("audio", 8))
MASS = frozenset({"mass"})


def _inputs() -> tuple[Tensor, Tensor, Tensor, Geometry, Geometry]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK))
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 2], keep[1, 6:] = False, False
    time = torch.cat([torch.arange(6) / 4, torch.arange(8) / 5]).expand(B, -1)
    return q, k, v, Geometry(None, torch.arange(LQ).expand(B, -1) / 3), Geometry(keep, time, SEGMENTS)


def _dense(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, video: int = 6) -> tuple[Tensor, Tensor]:
    scores = (q @ k.mT / math.sqrt(D)).masked_fill(~keep[:, None, None], -math.inf)
    weights = torch.softmax(scores, dim=-1)
    return weights @ v, weights[..., :video].sum(-1)


@pytest.mark.parametrize(
    "attention",
    [
        CoarseFineAttention(H, D, coarse=8, fine_s=0.0),
        CoarseFineAttention(H, D, coarse=2, fine_s=10.0),
        TokenMergingAttention(H, D, ratio=0.0, neighbours=2),
    ],
    ids=["a group for every key", "all within reach", "nothing merged"],
)
def test_it_is_softmax_attention_where_nothing_stands_together(attention: Attention) -> None:
    q, k, v, queries, keys = _inputs()
    assert keys.keep is not None
    result = attention(q, k, v, queries, keys, MASS)
    out, video = _dense(q, k, v, keys.keep)
    torch.testing.assert_close(result.out, out, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.stats["mass"][..., 0], video, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "attention",
    [CoarseFineAttention(H, D, coarse=LK // 2, fine_s=0.0), TokenMergingAttention(H, D, ratio=0.5, neighbours=4)],
    ids=["coarse_fine", "token_merging"],
)
def test_equal_keys_may_stand_together_at_no_loss(attention: Attention) -> None:
    """Every key twice: what stands for both must weigh as both."""
    q, k, v, queries, _ = _inputs()
    k, v = (x[:, :, : LK // 2].repeat_interleave(2, dim=2) for x in (k, v))
    keys = Geometry(None, (torch.arange(LK) // 2).expand(B, -1) / 3 + 100.0, (("audio", LK),))
    out, _ = _dense(q, k, v, torch.ones(B, LK, dtype=torch.bool))
    torch.testing.assert_close(attention(q, k, v, queries, keys).out, out, rtol=0, atol=1e-12)


def test_near_groups_are_read_by_key_and_far_groups_by_their_mean() -> None:
    fine_s, coarse = 0.32, 3
    q, k, v, queries, keys = _inputs()
    assert keys.keep is not None
    assert keys.time is not None
    assert queries.time is not None
    result = CoarseFineAttention(H, D, coarse, fine_s)(q, k, v, queries, keys, MASS)
    seen = set()
    for b in range(B):
        groups = []
        for start, stop in ((0, 6), (6, 14)):
            real = [j for j in range(start, stop) if keys.keep[b, j]]
            for g in range(coarse):
                members = [j for n, j in enumerate(real) if n * coarse // len(real) == g]
                groups += [(start, members)] if members else []
        for h in range(H):
            for i in range(LQ):
                terms = []  # (score, value, is video)
                for start, members in groups:
                    centre = float(keys.time[b, members].double().mean())
                    near = abs(centre - float(queries.time[b, i])) <= fine_s
                    seen.add(near)
                    for part in [[j] for j in members] if near else [members]:
                        score = float(q[b, h, i] @ k[b, h, part].mean(0)) / math.sqrt(D) + math.log(len(part))
                        terms.append((score, v[b, h, part].mean(0), start == 0))
                weights = torch.softmax(torch.tensor([score for score, _, _ in terms], dtype=torch.float64), dim=0)
                expected = sum(w * value for w, (_, value, _) in zip(weights, terms, strict=True))
                torch.testing.assert_close(result.out[b, h, i], expected, rtol=0, atol=1e-12)
                video = sum(float(w) for w, (_, _, is_video) in zip(weights, terms, strict=True) if is_video)
                assert abs(float(result.stats["mass"][b, h, i, 0]) - video) < 1e-12
    assert seen == {True, False}


@pytest.mark.parametrize("neighbours", [0, 2], ids=["among all", "among neighbours"])
def test_the_most_alike_pairs_are_merged(neighbours: int) -> None:
    ratio = 0.25
    q, k, v, queries, keys = _inputs()
    assert keys.keep is not None
    result = TokenMergingAttention(H, D, ratio, neighbours)(q, k, v, queries, keys, MASS)
    for b in range(B):
        merged: list[tuple[int, list[int]]] = []
        for start, stop in ((0, 6), (6, 14)):
            real = [j for j in range(start, stop) if keys.keep[b, j]]
            width = neighbours or (stop - start) // 2
            metric = torch.nn.functional.normalize(k[b].mean(0), dim=-1)
            pairs = []  # (cosine, first, second)
            for n in range(0, len(real), 2):
                chunk = n // (2 * width)
                seconds = [real[m] for m in range(1, len(real), 2) if m // (2 * width) == chunk]
                if seconds:
                    best = max(seconds, key=lambda j, i=real[n]: float(metric[i] @ metric[j]))
                    pairs.append((float(metric[real[n]] @ metric[best]), real[n], best))
            pairs.sort(reverse=True)
            partner = {first: second for _, first, second in pairs[: math.floor(ratio * len(real))]}
            members = {j: [j] for j in real if j not in partner}
            for first, second in partner.items():
                members[second].append(first)
            merged += [(start, group) for group in members.values()]
        keys_b = torch.stack([k[b][:, group].mean(1) for _, group in merged], 1)
        values = torch.stack([v[b][:, group].mean(1) for _, group in merged], 1)
        sizes = torch.tensor([float(len(group)) for _, group in merged], dtype=torch.float64)
        weights = torch.softmax(q[b] @ keys_b.mT / math.sqrt(D) + sizes.log(), dim=-1)
        torch.testing.assert_close(result.out[b], weights @ values, rtol=0, atol=1e-12)
        video = weights[..., torch.tensor([start == 0 for start, _ in merged])].sum(-1)
        torch.testing.assert_close(result.stats["mass"][b, ..., 0], video, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_merging_drops_no_key_at_any_length(length: int, ratio: float) -> None:
    attention = TokenMergingAttention(1, D, ratio, neighbours=3)
    k = torch.randn(3, length, D, generator=torch.Generator().manual_seed(length))
    for real in {length, length // 2, 1}:
        keep = (torch.arange(length) < real).expand(3, -1)
        index, count = attention._merged(k, keep, torch.arange(length).expand(3, -1), 3)
        assert (index[keep] < count).all()
        assert (index[~keep] >= count).all()
        kept = [len(row[row < count].unique()) for row in index]
        assert all(real - math.floor(ratio * real) <= n <= real - math.floor(ratio * real) + 1 for n in kept)
