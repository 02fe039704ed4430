"""Exact attention against its definition, written as loops in float64; its kernels and their merge."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.backends import kernels, portable
from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.exact.dense import DenseAttention
from mmattn.attention.interface import Geometry

B, H, LQ, D = 2, 2, 5, 8
SEGMENTS = (("video", 4), ("audio", 7))
LK = 11
MASS = frozenset({"mass"})


def _qkv(dtype: torch.dtype = torch.float32, lq: int = LQ, lk: int = LK) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, length, D, generator=generator, dtype=torch.float64) for length in (lq, lk, lk))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _keys(keep: Tensor | None = None) -> Geometry:
    return Geometry(keep, torch.arange(LK).expand(B, -1) / 10, SEGMENTS)


def _some_kept() -> Tensor:
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
def test_dense_attention_computes_its_definition(keep: Tensor | None) -> None:
    q, k, v = _qkv(torch.float64)
    expected, weights = _loop(q, k, v, keep)
    result = DenseAttention(H, D)(q, k, v, Geometry(), _keys(keep), frozenset({"weights"}))
    torch.testing.assert_close(result.out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.stats["weights"], weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
def test_its_error_is_no_more_than_twice_that_of_plain_torch(dtype: torch.dtype, stats: frozenset[str]) -> None:
    """The rule of flash-attention's tests: against float64, at most twice plain PyTorch of the same type plus 2 ulp."""
    q, k, v = _qkv(dtype, lq=33)
    exact, _ = _loop(q, k, v, None)
    plain = torch.softmax(q @ k.mT / math.sqrt(D), dim=-1) @ v
    allowed = 2 * (plain.double() - exact).abs().max() + 2 * torch.finfo(dtype).eps * exact.abs().max()
    out = DenseAttention(H, D)(q, k, v, Geometry(), _keys(), stats).out
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() <= allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_with_and_of_mass_are_near_those_of_float64(dtype: torch.dtype) -> None:
    def gradients(dtype: torch.dtype, stats: frozenset[str]) -> list[Tensor]:
        q, k, v = (x.to(dtype).requires_grad_() for x in _qkv(torch.bfloat16))
        result = DenseAttention(H, D)(q, k, v, Geometry(), _keys(_some_kept()), stats)
        total = result.out.square().sum() + sum(stat[..., 0].sum() for stat in result.stats.values())
        return [gradient.double() for gradient in torch.autograd.grad(total, (q, k, v))]

    for stats in (frozenset(), MASS):
        for ours, exact in zip(gradients(dtype, stats), gradients(torch.float64, stats), strict=True):
            assert (ours - exact).abs().max() <= 8 * torch.finfo(dtype).eps * exact.abs().max()


def test_without_a_gradient_of_mass_the_backward_is_that_of_plain_attention() -> None:
    q, k, v = (x.requires_grad_() for x in _qkv())
    gradient = torch.randn(B, H, LQ, D)
    for keep in (None, _some_kept()):
        ours, plain = (
            torch.autograd.grad(DenseAttention(H, D)(q, k, v, Geometry(), _keys(keep), stats).out, (q, k, v), gradient)
            for stats in (MASS, frozenset())
        )
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_keys_and_values_may_differ_in_width() -> None:
    """A score may add a channel to queries and keys."""
    q, k, v = (x.requires_grad_() for x in _qkv(torch.float64))
    v3 = v[..., :3]
    out, mass, lse = attend(q, k, v3, _some_kept(), None, (4, 7), 0.3)
    whole = attend(q, k, v, _some_kept(), None, (4, 7), 0.3)
    for ours, theirs in zip((out, mass, lse), (whole[0][..., :3], *whole[1:]), strict=True):
        torch.testing.assert_close(ours, theirs)
    first = torch.autograd.grad(out.sum() + mass[..., 0].sum(), (q, k, v))
    second = torch.autograd.grad(whole[0][..., :3].sum() + whole[1][..., 0].sum(), (q, k, v))
    for ours, theirs in zip(first, second, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_explicit_matrix_above_the_cap_is_refused_before_it_is_made() -> None:
    side = torch.zeros(1, 1, 10_000, 1)
    geometry = Geometry(None, None, (("video", 10_000),))
    with pytest.raises(ValueError, match="above the cap"):
        DenseAttention(1, 1)(side, side, side, geometry, geometry, frozenset({"weights"}))


def test_the_backend_is_logged_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    attention = DenseAttention(H, D)
    with caplog.at_level(logging.INFO, logger="mmattn"):
        for stats in (frozenset(), frozenset(), MASS, MASS):
            attention(*_qkv(), Geometry(), _keys(), stats)
    assert [record.message.rsplit(" ", 1)[1] for record in caplog.records] == ["sdpa", "merge"]


MASKS = {
    "none": None,
    "keys": _some_kept()[:, None, None],
    "pairs": torch.rand(B, 1, LQ, LK, generator=torch.Generator().manual_seed(7)) < 0.4,
    "heads": torch.rand(B, H, LQ, LK, generator=torch.Generator().manual_seed(8)) < 0.4,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_the_fused_and_the_portable_kernels_agree(
    dtype: torch.dtype, mask: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = _qkv(dtype)
    if mask is not None and mask.shape[2] > 1:
        mask = mask.clone()
        mask[0, :, 1] = False
    d_out = torch.randn(B, H, LQ, D, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert kernels._fused(q), "this torch has lost the operators: the fallback is slow"
    fused = kernels.forward(q, k, v, mask, 0.3)
    fused_grads = kernels.backward(d_out, q, k, v, *fused, mask, 0.3)
    monkeypatch.setattr(kernels, "_fused", lambda q: False)
    monkeypatch.setattr(portable, "CHUNK_ELEMENTS", 3 * B * H * LK)
    plain = kernels.forward(q, k, v, mask, 0.3)
    plain_grads = kernels.backward(d_out, q, k, v, *fused, mask, 0.3)
    tolerance = 8 * torch.finfo(dtype).eps
    for ours, theirs in zip((*fused, *fused_grads), (*plain, *plain_grads), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance, atol=2 * tolerance)
    if mask is not None:
        empty = ~mask.expand(B, H, LQ, LK).any(-1)
        for out, lse in (fused, plain):
            assert not out[empty].any()
            assert (lse[empty] == -math.inf).all()
            assert lse[~empty].isfinite().all()


def test_an_operator_that_is_wrong_or_gone_is_not_used_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels._trusted.cache_clear()
    right = kernels._cpu_forward
    monkeypatch.setattr(kernels, "_cpu_forward", lambda *given: (right(*given)[0] * 1.01, right(*given)[1]))
    try:
        assert not kernels._fused(_qkv()[0])
        assert "slower" in caplog.text
        out, _ = kernels.forward(*_qkv(), None, 0.3)
        torch.testing.assert_close(out, right(*_qkv(), None, 0.3)[0])
    finally:
        kernels._trusted.cache_clear()


def test_merging_any_number_of_parts_gives_the_whole() -> None:
    q, k, v = _qkv(torch.float64)
    expected, weights = _loop(q, k, v, None)
    sizes = [1, 0, 6, 4]
    parts = zip(k.split(sizes, dim=2), v.split(sizes, dim=2), strict=True)
    found = [kernels.forward(q, *part, None, 1 / math.sqrt(D)) for part in parts]
    out, mass, _ = merge([out for out, _ in found], [lse for _, lse in found])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    sums = torch.stack([part.sum(-1) for part in weights.split(sizes, dim=-1)], -1)
    torch.testing.assert_close(mass, sums, rtol=0, atol=1e-12)
