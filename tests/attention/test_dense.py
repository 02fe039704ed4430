"""Dense attention against its definition, written as loops in float64, over whatever conf/attention offers.

Shape legend as in attention/interface.py: B clips, H heads, Lq queries, Lk keys, D channels of a head.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.dense import DenseAttention
from mmattn.attention.interface import Attention, Geometry
from mmattn.attention.merge import _fused, _has_fused, _portable, attend_with_lse, merge
from mmattn.config import build, compose, group_choices

B, H, LQ, D = 2, 2, 5, 8
SEGMENTS = (("video", 4), ("audio", 7))
LK = 11
MASS = frozenset({"mass"})
BOTH = frozenset({"mass", "weights"})


@pytest.fixture(scope="module", params=group_choices("attention"))
def attention(request: pytest.FixtureRequest) -> Attention:
    config = compose("train", [f"attention={request.param}"])
    return build(config["attention"])(H, D).eval()


def _qkv(
    dtype: torch.dtype = torch.float32, seed: int = 0, lq: int = LQ, lk: int = LK
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, length, D, generator=generator, dtype=torch.float64) for length in (lq, lk, lk))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _geometries(keep: Tensor | None = None) -> tuple[Geometry, Geometry]:
    keys = Geometry(keep, torch.arange(LK).expand(B, -1) / 10, SEGMENTS)
    return Geometry(None, torch.arange(LQ).expand(B, -1) / 5), keys


def _some_kept() -> Tensor:
    """One clip with padding in both segments, one with the whole second segment missing."""
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 3], keep[0, 9:] = False, False
    keep[1, 4:] = False
    return keep


def _loop(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """softmax(q k / sqrt D) v over real keys, one number after another; and the weights."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=torch.float64)
    weights = torch.zeros(*q.shape[:3], k.shape[2], dtype=torch.float64)
    for b in range(q.shape[0]):
        real = [j for j in range(k.shape[2]) if keep is None or keep[b, j]]
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = {j: sum(float(x * y) for x, y in zip(q[b, h, i], k[b, h, j], strict=True)) for j in real}
                total = sum(math.exp(score / math.sqrt(D)) for score in scores.values())
                for j, score in scores.items():
                    weights[b, h, i, j] = math.exp(score / math.sqrt(D)) / total
                    out[b, h, i] += weights[b, h, i, j] * v[b, h, j]
    return out, weights


@pytest.mark.parametrize("keep", [None, _some_kept()], ids=["all real", "padding"])
def test_it_computes_its_definition(keep: Tensor | None) -> None:
    attention = DenseAttention(H, D)
    q, k, v = _qkv(torch.float64)
    expected, weights = _loop(q, k, v, keep)
    result = attention(q, k, v, *_geometries(keep), frozenset({"weights"}))
    torch.testing.assert_close(result.out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.stats["weights"], weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
def test_its_error_is_no_more_than_twice_that_of_plain_torch(dtype: torch.dtype, stats: frozenset[str]) -> None:
    """The rule of flash-attention's tests: against float64, at most twice plain PyTorch of the same type plus 2 ulp."""
    attention = DenseAttention(H, D)
    q, k, v = _qkv(dtype, lq=33, lk=LK)
    exact, _ = _loop(q, k, v, None)
    plain = torch.softmax(q @ k.mT / math.sqrt(D), dim=-1) @ v
    allowed = 2 * (plain.double() - exact).abs().max() + 2 * torch.finfo(dtype).eps * exact.abs().max()
    queries = Geometry(None, torch.zeros(B, 33))
    out = attention(q, k, v, queries, _geometries()[1], stats).out
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() <= allowed


def test_lengths_may_differ_either_way(attention: Attention) -> None:
    for lq in (1, LK, 3 * LK):
        q, k, v = _qkv(lq=lq)
        out = attention(q, k, v, Geometry(None, torch.zeros(B, lq)), _geometries()[1]).out
        assert out.shape == (B, H, lq, D)
        assert out.isfinite().all()


def test_permuting_keys_with_their_geometry_changes_nothing(attention: Attention) -> None:
    q, k, v = _qkv()
    queries, keys = _geometries(_some_kept())
    order = torch.randperm(LK, generator=torch.Generator().manual_seed(3))
    moved = Geometry(keys.keep[:, order], keys.time[:, order], (("all", LK),))
    before = attention(q, k, v, queries, keys).out
    after = attention(q, k[:, :, order], v[:, :, order], queries, moved).out
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_padding_changes_nothing(attention: Attention) -> None:
    q, k, v = _qkv()
    queries, keys = _geometries()
    wild = 1e4 * torch.ones(B, H, 3, D)
    keep = torch.cat([torch.ones(B, LK, dtype=torch.bool), torch.zeros(B, 3, dtype=torch.bool)], dim=1)
    padded = Geometry(keep, torch.cat([keys.time, torch.zeros(B, 3)], dim=1), (*SEGMENTS, ("padding", 3)))
    k_padded, v_padded = torch.cat([k, wild], dim=2), torch.cat([v, wild], dim=2)
    before = attention(q, k, v, queries, keys, MASS)
    after = attention(q, k_padded, v_padded, queries, padded, MASS)
    torch.testing.assert_close(after.out, before.out, rtol=0, atol=1e-6)
    torch.testing.assert_close(after.stats["mass"][..., :2], before.stats["mass"], rtol=0, atol=1e-6)
    assert not after.stats["mass"][..., 2].any()


@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
def test_a_query_without_a_key_gives_zero_and_finite_gradients(attention: Attention, stats: frozenset[str]) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in _qkv())
    keep = _some_kept()
    keep[0] = False
    result = attention(q, k, v, *_geometries(keep), stats)
    assert not result.out[0].any()
    assert result.out[1].any()
    for mass in result.stats.values():
        assert not mass[0].any()
    result.out.square().sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[0].any()
        assert tensor.grad[1].any()


def test_gradients_are_right(attention: Attention) -> None:
    q, k, v = (tensor[:, :1, :4].contiguous().requires_grad_() for tensor in _qkv(torch.float64))
    keep = torch.tensor([[True, True, False, True], [True] * 4])
    keys = Geometry(keep, torch.arange(4.0).expand(B, -1), (("video", 2), ("audio", 2)))
    queries = Geometry(None, torch.arange(4.0).expand(B, -1))
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, queries, keys).out, (q, k, v))
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, queries, keys, MASS).out, (q, k, v))


@pytest.mark.parametrize("grad", [False, True], ids=["no gradient", "gradient"])
def test_measuring_changes_nothing_but_the_stats(attention: Attention, grad: bool) -> None:
    q, k, v = (tensor.requires_grad_(grad) for tensor in _qkv())
    plain = attention(q, k, v, *_geometries(_some_kept()))
    measured = attention(q, k, v, *_geometries(_some_kept()), MASS)
    assert not plain.stats
    assert set(measured.stats) == {"mass"}
    torch.testing.assert_close(measured.out, plain.out, rtol=0, atol=1e-6)


@pytest.mark.parametrize("keep", [None, _some_kept()], ids=["all real", "a missing segment"])
def test_mass_is_the_sum_of_the_weights_of_each_segment(attention: Attention, keep: Tensor | None) -> None:
    if not attention.supports >= BOTH:
        pytest.skip(f"{type(attention).__name__} has no explicit weights")
    q, k, v = _qkv()
    result = attention(q * 3, k, v, *_geometries(keep), BOTH)
    mass, weights = result.stats["mass"], result.stats["weights"]
    assert mass.shape == (B, H, LQ, len(SEGMENTS))
    parts = weights.split([length for _, length in SEGMENTS], dim=-1)
    torch.testing.assert_close(mass, torch.stack([part.sum(-1) for part in parts], -1), rtol=0, atol=1e-6)
    torch.testing.assert_close(mass.sum(-1), torch.ones(B, H, LQ), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights @ v, result.out, rtol=0, atol=1e-5)
    if keep is not None:
        assert (mass[1, ..., 0] == 1).all(), "the only real segment"
        assert (mass[1, ..., 1] == 0).all()


def test_mass_survives_scores_that_overflow_an_exponential() -> None:
    attention = DenseAttention(H, D)
    q, k, v = _qkv()
    mass = attention(q * 100, k * 100, v, *_geometries(_some_kept()), MASS).stats["mass"]
    torch.testing.assert_close(mass.sum(-1), torch.ones(B, H, LQ), rtol=0, atol=1e-6)


def test_a_segment_may_be_empty(attention: Attention) -> None:
    q, k, v = _qkv(lk=4)
    keys = Geometry(None, torch.zeros(B, 4), (("video", 4), ("audio", 0)))
    result = attention(q, k, v, _geometries()[0], keys, MASS)
    assert (result.stats["mass"] == torch.tensor([1.0, 0.0])).all()


def test_stats_it_does_not_define_raise(attention: Attention) -> None:
    with pytest.raises(ValueError, match="clairvoyance"):
        attention(*_qkv(), *_geometries(), frozenset({"clairvoyance"}))


def test_segments_that_do_not_cover_the_keys_raise(attention: Attention) -> None:
    wrong = Geometry(None, torch.zeros(B, LK), (("video", 3), ("audio", 7)))
    with pytest.raises(ValueError, match=r"10 keys.*11"):
        attention(*_qkv(), _geometries()[0], wrong, MASS)


def test_an_explicit_matrix_above_the_cap_is_refused_before_it_is_made() -> None:
    attention = DenseAttention(H, D)
    side = torch.zeros(1, 1, 10_000, 1)
    geometry = Geometry(None, None, (("video", 10_000),))
    with pytest.raises(ValueError, match="above the cap"):
        attention(side, side, side, geometry, geometry, frozenset({"weights"}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_fused_and_the_portable_path_agree(dtype: torch.dtype) -> None:
    q, k, v = _qkv(dtype)
    assert _has_fused(q, k, v), "this torch has lost the operator: the fallback is silent, so say it here"
    bias = torch.zeros(B, 1, 1, LK, dtype=dtype).masked_fill(~_some_kept()[:, None, None], -math.inf)
    tolerance = 4 * torch.finfo(dtype).eps
    for kept in (None, bias):
        for ours, theirs in zip(_fused(q, k, v, kept, 0.3), _portable(q, k, v, kept, 0.3), strict=True):
            torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance, atol=2 * tolerance)


def test_the_portable_path_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = _qkv(lq=13)
    whole = _portable(q, k, v, None, 0.3)
    monkeypatch.setattr("mmattn.attention.merge.CHUNK_ELEMENTS", 3 * B * H * LK)
    for ours, theirs in zip(_portable(q, k, v, None, 0.3), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fused", "portable"])
def test_without_a_key_the_log_sum_exp_is_minus_infinity_on_every_path(dtype: torch.dtype) -> None:
    q, k, v = _qkv(dtype)
    keep = _some_kept()
    keep[0] = False
    out, lse = attend_with_lse(q, k, v, keep, 0.3)
    assert (lse[0] == -math.inf).all()
    assert lse[1].isfinite().all()
    assert not out[0].any()


def test_merging_any_number_of_parts_gives_the_whole() -> None:
    q, k, v = _qkv(torch.float64)
    expected, weights = _loop(q, k, v, None)
    sizes = [1, 0, 6, 4]
    parts = [
        attend_with_lse(q, *both, None, 1 / math.sqrt(D))
        for both in zip(k.split(sizes, dim=2), v.split(sizes, dim=2), strict=True)
    ]
    out, mass = merge([out for out, _ in parts], [lse for _, lse in parts])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    sums = torch.stack([part.sum(-1) for part in weights.split(sizes, dim=-1)], -1)
    torch.testing.assert_close(mass, sums, rtol=0, atol=1e-12)
