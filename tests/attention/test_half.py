"""In 16 bits a mechanism gives what it gives in float64 of the same inputs, however large its scores are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Attention, Geometry
from mmattn.config.compose import build, group_choices, read_choice

B, H, L, D = 2, 2, 40, 64
SIZES = (1.0, 60.0, 250.0)  # q.k up to 4e6, 5e5 when it is scaled: float16 ends at 65504
CHOOSES = {"token_merging"}  # between keys that were merged: one rounding may turn a sharp choice

OVERFLOWS = {"gaussian"}  # half of a square above 64 x 65504


def _make(name: str) -> Attention:
    torch.manual_seed(0)
    return build(read_choice("attention", name))(H, D).eval()


def _inputs(size: float, dtype: torch.dtype) -> list[Tensor]:
    """Queries as large as `size` and keys near them, so that the largest scores are the queries' own."""
    generator = torch.Generator().manual_seed(1)
    q, noise, v = (torch.randn(B, H, L, D, generator=generator) for _ in range(3))
    q = q.sign() * size
    return [x.to(dtype).requires_grad_() for x in (q, q + noise, v)]


def _geometry() -> Geometry:
    keep = torch.ones(B, L, dtype=torch.bool)
    keep[0, 30:] = False
    return Geometry(keep, (torch.arange(L) / 10).expand(B, -1), (("video", 20), ("audio", 20)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", group_choices("attention"))
def test_large_scores_are_right_in_16_bits(name: str, dtype: torch.dtype) -> None:
    attention, exact, side = _make(name), _make(name).double(), _geometry()
    stats = frozenset({"mass", "weights"}) & attention.supports
    for size in SIZES:
        inputs = _inputs(size, dtype)
        result = attention(*inputs, side, side, stats)
        total = result.out.float().sum() + sum(x.float()[..., 0].sum() for x in result.stats.values())
        gradients = torch.autograd.grad(total, inputs)
        assert all(x.isfinite().all() for x in (result.out, *result.stats.values(), *gradients)), size
        expected = exact(*(x.detach().double() for x in inputs), side, side).out
        error = (result.out.double() - expected).abs().max() / expected.abs().max()
        assert name in CHOOSES or error <= 8 * torch.finfo(dtype).eps, size


@pytest.mark.parametrize("content", ["zeros", "near the largest number"])
@pytest.mark.parametrize("name", sorted(set(group_choices("attention")) - OVERFLOWS))
def test_the_smallest_and_largest_numbers_of_float16_are_numbers(name: str, content: str) -> None:
    attention, exact, side = _make(name), _make(name).double(), _geometry()
    q, k, v = (x.detach() for x in _inputs(1.0, torch.float16))
    q, k = (x * 0 if content == "zeros" else x.clamp(-1, 1) * 60000 for x in (q, k))
    found = attention(q, k, v, side, side).out
    expected = exact(q.double(), k.double(), v.double(), side, side).out
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert found.isfinite().all()
    assert (name in CHOOSES and content != "zeros") or error <= 8 * torch.finfo(torch.float16).eps


@pytest.mark.parametrize("name", ["lsh", "routing", "topk_blocks"])
def test_16_bits_choose_the_keys_that_float64_chooses(name: str) -> None:
    attention, exact = _make(name), _make(name).double()
    generator = torch.Generator().manual_seed(2)
    inputs = [torch.randn(B, H, 400, D, generator=generator).half() for _ in range(3)]
    side = Geometry(None, (torch.arange(400) / 10).expand(B, -1), (("video", 200), ("audio", 200)))
    expected = exact(*(x.double() for x in inputs), side, side).out
    error = (attention(*inputs, side, side).out.double() - expected).abs().max() / expected.abs().max()
    assert error <= 8 * torch.finfo(torch.float16).eps


@pytest.mark.parametrize("name", group_choices("attention"))
def test_autocast_to_float16_does_not_make_scores_infinite(name: str) -> None:
    """As `precision=16-mixed` does: products are rounded to float16 wherever autocast is left on."""
    attention, side = _make(name), _geometry()
    stats = frozenset({"mass", "weights"}) & attention.supports
    inputs = _inputs(60.0, torch.float16)
    with torch.autocast("cpu", dtype=torch.float16):
        result = attention(*inputs, side, side, stats)
    assert all(x.isfinite().all() for x in (result.out, *result.stats.values()))
    gradients = torch.autograd.grad(result.out.float().sum(), inputs)
    assert all(x.isfinite().all() for x in gradients)
