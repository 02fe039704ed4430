"""Linformer, Nystrom attention and latents against their papers' definitions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.low_rank.latents import LatentAttention
from mmattn.attention.low_rank.linformer import LinformerAttention
from mmattn.attention.low_rank.nystrom import NystromAttention, pseudo_inverse

B, H, LQ, LK, D = 2, 2, 6, 9, 4
SEGMENTS = (("video", 4), ("audio", 5))


def _inputs(lq: int = LQ, lk: int = LK) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (lq, lk, lk))
    return q, k, v


def _some_kept() -> Tensor:
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 2], keep[1, 4:] = False, False
    return keep


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / math.sqrt(D), dim=-1) @ v


def test_linformer_at_its_own_length_is_the_papers() -> None:
    """softmax(q (E k)^T / sqrt(D)) (F v), eq. 7, with the tokens in the order of time."""
    attention = LinformerAttention(H, D, rank=3, positions=LK).double().requires_grad_(False)
    q, k, v = _inputs()
    time = torch.randperm(LK, generator=torch.Generator().manual_seed(1)).expand(B, -1).double()
    e, f = attention.projections
    order = time[0].argsort()
    expected = _softmax_attention(q, e @ k[:, :, order], f @ v[:, :, order])
    torch.testing.assert_close(attention(q, k, v, Geometry(), Geometry(None, time)).out, expected, rtol=0, atol=1e-12)


def test_linformer_stretches_its_projection_over_the_real_tokens_of_each_segment() -> None:
    positions = 5
    attention = LinformerAttention(H, D, rank=2, positions=positions).double().requires_grad_(False)
    q, k, v = _inputs()
    keep = _some_kept()
    result = attention(q, k, v, Geometry(), Geometry(keep, None, SEGMENTS), frozenset({"mass"}))
    for b in range(B):
        keys, values, owners = [], [], []
        for start, stop in ((0, 4), (4, 9)):
            real = [j for j in range(start, stop) if keep[b, j]]
            projected = torch.zeros(2, 2, H, D, dtype=torch.float64)  # keys and values by rank
            for n, j in enumerate(real):
                place = min(max((n + 0.5) * positions / len(real) - 0.5, 0.0), positions - 1.0)
                low = int(place)
                high, far = min(low + 1, positions - 1), place - low
                column = (1 - far) * attention.projections[..., low] + far * attention.projections[..., high]
                for rank in range(2):
                    projected[0, rank] += column[0, rank] * k[b, :, j] * positions / len(real)
                    projected[1, rank] += column[1, rank] * v[b, :, j] * positions / len(real)
            if real:
                keys += list(projected[0])
                values += list(projected[1])
                owners += [start] * 2
        weights = torch.softmax(q[b] @ torch.stack(keys, 1).mT / math.sqrt(D), dim=-1)
        torch.testing.assert_close(result.out[b], weights @ torch.stack(values, 1), rtol=0, atol=1e-12)
        video = weights[..., torch.tensor(owners) == 0].sum(-1)
        torch.testing.assert_close(result.stats["mass"][b, ..., 0], video, rtol=0, atol=1e-12)


def test_linformer_begins_as_the_mean_of_equal_parts() -> None:
    torch.manual_seed(0)
    attention = LinformerAttention(1, D, rank=4, positions=64)
    means = attention.projections[0]
    torch.testing.assert_close(means.sum(dim=1), torch.ones(4), rtol=0, atol=0.1)
    assert (means[0, :16] > 0.5 / 16).all()
    assert (means[0, 16:].abs() < 0.5 / 16).all()


@pytest.mark.parametrize("rank", [0, 9], ids=["none", "above positions"])
def test_linformer_refuses_a_rank_that_cannot_be(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank={rank}"):
        LinformerAttention(H, D, rank=rank, positions=8)


@pytest.mark.parametrize("lq", [LK, LQ], ids=["as many queries as keys", "fewer queries"])
def test_nystrom_with_a_landmark_for_every_token_is_softmax_attention(lq: int) -> None:
    q, k, v = _inputs(lq=lq)
    out = NystromAttention(H, D, landmarks=LK, iterations=40)(q, k, v, Geometry(), Geometry()).out
    torch.testing.assert_close(out, _softmax_attention(q, k, v), rtol=0, atol=1e-8)


def test_nystrom_computes_equation_13() -> None:
    """Landmarks as means of equal parts of the real tokens, the pseudo-inverse by singular values."""
    q, k, v = _inputs()
    keep = _some_kept()
    attention = NystromAttention(H, D, landmarks=2, iterations=40)
    result = attention(q, k, v, Geometry(), Geometry(keep, None, SEGMENTS), frozenset({"weights"}))
    rows = torch.stack([q[:, :, :3].mean(2), q[:, :, 3:].mean(2)], 2)
    for b, parts in enumerate(([[0, 1], [3], [4, 5, 6], [7, 8]], [[0, 1], [2, 3]])):
        landmarks = torch.stack([k[b][:, part].mean(1) for part in parts], 1)
        left, middle, right = (
            torch.softmax((x @ y.mT / math.sqrt(D)), dim=-1)
            for x, y in ((q[b], landmarks), (rows[b], landmarks), (rows[b], k[b][:, keep[b]]))
        )
        weights = left @ torch.linalg.pinv(middle) @ right
        torch.testing.assert_close(result.out[b], weights @ v[b][:, keep[b]], rtol=0, atol=1e-8)
        torch.testing.assert_close(result.stats["weights"][b][..., keep[b]], weights, rtol=0, atol=1e-8)
        assert not result.stats["weights"][b][..., ~keep[b]].any()


def test_nystrom_error_falls_with_the_landmarks() -> None:
    """On tokens that change smoothly in time, as a stream's do."""
    length = 240
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3 * D, 1, length + 60, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool1d(noise, 61, 1).view(3, 1, 1, D, length).mT * 7
    exact = _softmax_attention(*smooth)

    def error(landmarks: int) -> float:
        out = NystromAttention(1, D, landmarks, iterations=20)(*smooth, Geometry(), Geometry()).out
        return float((out - exact).norm() / exact.norm())

    errors = [error(n) for n in (2, 8, 32)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors


def test_the_pseudo_inverse_is_that_of_moore_and_penrose() -> None:
    matrix = torch.softmax(2 * torch.randn(3, 5, 8, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(pseudo_inverse(matrix, 40), torch.linalg.pinv(matrix), rtol=0, atol=1e-8)
    matrix[1, 2] = 0.0  # an empty landmark
    torch.testing.assert_close(pseudo_inverse(matrix, 40), torch.linalg.pinv(matrix), rtol=0, atol=1e-8)
    assert not pseudo_inverse(torch.zeros(2, 3, 3), 6).any()


def test_latents_pack_and_unpack_with_softmax_attention() -> None:
    attention = LatentAttention(H, D, latents=3).double().requires_grad_(False)
    q, k, v = _inputs()
    keep = _some_kept()
    time = torch.rand(B, LK, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = attention(q, k, v, Geometry(), Geometry(keep, time, SEGMENTS), attention.supports)
    for b in range(B):
        real = keep[b]
        pack = torch.softmax(attention.latents @ k[b][:, real].mT / math.sqrt(D), dim=-1)
        unpack = torch.softmax(q[b] @ (pack @ k[b][:, real]).mT / math.sqrt(D), dim=-1)
        weights = unpack @ pack
        torch.testing.assert_close(result.out[b], weights @ v[b][:, real], rtol=0, atol=1e-12)
        torch.testing.assert_close(result.stats["weights"][b][..., real], weights, rtol=0, atol=1e-12)
        video = weights[..., torch.arange(LK)[real] < 4].sum(-1)
        torch.testing.assert_close(result.stats["mass"][b, ..., 0], video, rtol=0, atol=1e-12)
        mean_time = (weights * time[b, real]).sum(-1)
        torch.testing.assert_close(result.stats["mean_time"][b], mean_time, rtol=0, atol=1e-12)
