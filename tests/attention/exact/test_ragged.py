"""Clips of different lengths are attended to one by one: the same numbers as with a mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import ragged, sdpa
from mmattn.attention.interface import Geometry

B, H, LQ, LK, D = 4, 2, 150, 200, 6
TIMES = torch.arange(LK) / 10


def _side(keep: Tensor | None, length: int) -> Geometry:
    return Geometry(keep, TIMES[:length].expand(B, -1), (("video", length // 2), ("audio", length - length // 2)))


def _sides() -> tuple[Geometry, Geometry]:
    """One clip whole, one padded at its end, one in both segments, one without any key."""
    q_keep, k_keep = (torch.ones(B, length, dtype=torch.bool) for length in (LQ, LK))
    q_keep[1, 60:], k_keep[1, 90:] = False, False
    k_keep[2, 70:100], k_keep[2, 180:] = False, False
    k_keep[3] = False
    return _side(q_keep, LQ), _side(k_keep, LK)


def _inputs(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = (LQ, LK, LK)
    return [torch.randn(B, H, n, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for n in sizes]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Queries and keys of each call of PyTorch's kernel from here on."""
    found: list[tuple[int, int]] = []
    right = sdpa.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, *rest: Tensor, **settings: object) -> Tensor:
        found.append((q.shape[2], k.shape[2]))
        return right(q, k, *rest, **settings)

    for masked in (True, False):
        sdpa.trusted("cpu", torch.float32, masked, False)  # the trial is no use
    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", spy)
    return found


def test_only_what_is_real_is_computed_and_it_is_what_a_mask_gives(
    calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attention, found = ExactAttention(H, D), []
    for worth in (ragged.WORTH, 0.0):
        monkeypatch.setattr(ragged, "WORTH", worth)
        inputs, (queries, keys) = _inputs(), _sides()
        out = attention(*inputs, queries, keys).out
        real = out.transpose(1, 2)[queries.keep]
        found.append([real, *torch.autograd.grad(real.square().sum(), inputs)])
        assert not out[3].any()
    assert calls == [(150, 200), (60, 90), (150, 150), (150, 200)], "one by one, then all by a mask"
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_gradients_are_right() -> None:
    queries, keys = _sides()
    inputs = _inputs(torch.float64)
    of_clips = ragged.places(*inputs[:2], queries, keys)
    assert of_clips is not None
    assert torch.autograd.gradcheck(lambda *x: ragged.attend(*x, of_clips, 0.4), inputs, fast_mode=True)


def _whole(keep: Tensor) -> Tensor:
    return torch.ones_like(keep)


@pytest.mark.parametrize("change", [_whole, torch.zeros_like], ids=["little padding", "nothing but padding"])
def test_one_call_with_a_mask_is_left_where_nothing_is_saved(
    change: Callable[[Tensor], Tensor], calls: list[tuple[int, int]]
) -> None:
    _, keys = _sides()
    out = ExactAttention(H, D)(*_inputs(), _side(None, LQ), _side(change(keys.keep), LK)).out
    assert calls == [(LQ, LK)]
    assert out.isfinite().all()


def test_lengths_are_read_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    right = ragged.places
    monkeypatch.setattr(ragged, "places", lambda *sides: read.append(1) or right(*sides))
    sides = _sides()
    for _ in range(3):
        ExactAttention(H, D)(*_inputs(), *sides)
    assert len(read) == 1


def test_a_graph_reads_no_lengths() -> None:
    attention, sides = ExactAttention(H, D), _sides()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    real = [x(*_inputs(), *sides).out.transpose(1, 2)[sides[0].keep] for x in (attention, compiled)]
    torch.testing.assert_close(*real, rtol=0, atol=1e-5)
