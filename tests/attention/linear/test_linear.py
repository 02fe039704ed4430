"""Linear attention against its papers' formulas, one number after another in float64, and FAVOR+'s rate of error."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.linear.linear import LinearAttention
from mmattn.attention.linear.performer import PerformerAttention, orthogonal_directions

B, H, LQ, LK, D = 2, 2, 4, 7, 6
SEGMENTS = (("video", 3), ("audio", 4))
ALL = frozenset({"weights", "mass", "mean_time"})


def _inputs(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Geometry, Geometry]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK))
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 2], keep[1, 4:] = False, False
    time = torch.rand(B, LK, generator=generator, dtype=torch.float64)
    return q * scale, k * scale, v, Geometry(), Geometry(keep, time, SEGMENTS)


def _weights(kernel, q: Tensor, k: Tensor, keep: Tensor) -> Tensor:
    """kernel(q_i, k_j) over its sum."""
    weights = torch.zeros(B, H, LQ, LK, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(LQ):
                for j in range(LK):
                    if keep[b, j]:
                        weights[b, h, i, j] = kernel(q[b, h, i].tolist(), k[b, h, j].tolist())
    return weights / weights.sum(dim=-1, keepdim=True)


def _elu_kernel(q: list[float], k: list[float]) -> float:
    def phi(x: float) -> float:
        return x + 1 if x > 0 else math.exp(x)

    return sum(phi(a) * phi(b) for a, b in zip(q, k, strict=True))


def _favor_kernel(directions: Tensor):
    def phi(x: list[float], w: list[float]) -> float:
        x = [value / D**0.25 for value in x]
        return math.exp(sum(a * b for a, b in zip(w, x, strict=True)) - sum(a * a for a in x) / 2)

    rows = directions.double().tolist()
    return lambda q, k: sum(phi(q, w) * phi(k, w) for w in rows) / len(rows)


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_it_computes_its_definition_and_its_statistics(name: str) -> None:
    q, k, v, queries, keys = _inputs()
    assert keys.keep is not None
    assert keys.time is not None
    if name == "linear":
        attention, kernel = LinearAttention(H, D), _elu_kernel
    else:
        attention = PerformerAttention(H, D, features=9, redraw=False, seed=3)
        kernel = _favor_kernel(attention.directions)
    expected = _weights(kernel, q, k, keys.keep)
    result = attention(q, k, v, queries, keys, ALL)
    torch.testing.assert_close(result.stats["weights"], expected, rtol=0, atol=1e-6 if name == "performer" else 1e-12)
    torch.testing.assert_close(result.out, result.stats["weights"] @ v, rtol=0, atol=1e-12)
    masses = torch.stack([part.sum(-1) for part in result.stats["weights"].split([3, 4], dim=-1)], -1)
    torch.testing.assert_close(result.stats["mass"], masses, rtol=0, atol=1e-12)
    mean = (result.stats["weights"] * keys.time[:, None, None]).sum(-1)
    torch.testing.assert_close(result.stats["mean_time"], mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [30.0, 300.0])
def test_large_scores_neither_overflow_nor_vanish(size: float) -> None:
    """elu(x) + 1 rounds to 0 below -17, and exp(w.x) overflows; a row of real keys must still sum to 1."""
    q, k, v, queries, keys = _inputs(size)
    for attention in (LinearAttention(H, D), PerformerAttention(H, D, features=16, redraw=False, seed=0)):
        result = attention(q.float(), -k.abs().float(), v.float(), queries, keys, frozenset({"mass"}))
        assert result.out.isfinite().all()
        if size == 30.0 or isinstance(attention, PerformerAttention):
            torch.testing.assert_close(result.stats["mass"].sum(-1), torch.ones(B, H, LQ), rtol=0, atol=1e-5)


def test_favor_error_falls_as_one_over_the_square_root_of_the_features() -> None:
    q, k, v, queries, _ = _inputs(0.3)
    exact = torch.softmax(q @ k.mT / math.sqrt(D), dim=-1) @ v

    def error(features: int) -> float:
        runs = [PerformerAttention(H, D, features, redraw=False, seed=seed) for seed in range(60)]
        squares = [(run(q, k, v, queries, Geometry()).out - exact).square().mean() for run in runs]
        return float(torch.stack(squares).mean().sqrt())

    errors = [error(features) for features in (24, 96, 384)]
    assert 0.42 < math.log(errors[0] / errors[2]) / math.log(384 / 24) < 0.58, errors
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2], errors


def test_directions_are_orthogonal_in_blocks_and_as_long_as_gaussian_ones() -> None:
    drawn = orthogonal_directions(200 * D + 2, D, torch.Generator().manual_seed(0))
    assert drawn.shape == (200 * D + 2, D)
    block = drawn[:D]
    cosines = block @ block.mT / (block.norm(dim=1)[:, None] * block.norm(dim=1))
    torch.testing.assert_close(cosines, torch.eye(D), rtol=0, atol=1e-6)
    assert abs(float(drawn.square().sum(dim=1).mean()) - D) < 0.5
    assert float(drawn.mean(dim=0).abs().max()) < 0.15


def test_evaluation_repeats_and_training_redraws_from_torchs_random_numbers() -> None:
    q, k, v, queries, keys = _inputs()
    attention = PerformerAttention(H, D, features=8, redraw=True, seed=0)
    assert not attention.state_dict(), "evaluating a dense model with it needs no weights"

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attention(q, k, v, queries, keys).out

    assert not torch.equal(run(1), run(2))
    assert torch.equal(run(1), run(1)), "a resumed run repeats"
    attention.eval()
    assert torch.equal(run(1), run(2))
    assert torch.equal(PerformerAttention(H, D, 8, True, 0).eval()(q, k, v, queries, keys).out, run(1))
