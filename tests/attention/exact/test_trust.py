"""Fused operators are tried before they are used: on rows without a key, on every path, whatever the caller's modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import kernels, sdpa, trust
from mmattn.attention.exact.dense import DenseAttention
from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.time_window import TimeWindow

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    for cached in (kernels._trusted, sdpa._trusted):
        cached.cache_clear()
    yield
    for cached in (kernels._trusted, sdpa._trusted):
        cached.cache_clear()


def test_a_sample_has_rows_without_any_key_and_a_clip_without_any() -> None:
    masks = trust.sample(torch.float32).masks
    assert masks["no mask"] is None
    assert not masks["a mask of keys"][1].any()
    assert masks["a mask of keys"][0].any()
    empty = ~masks["a mask of pairs"].any(dim=3)
    assert empty.any()
    assert not empty.all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_this_pytorch_is_right_on_this_processor(dtype: torch.dtype) -> None:
    assert kernels._trusted("cpu", dtype)
    assert sdpa.trusted("cpu", dtype, True, False)
    assert sdpa.trusted("cpu", dtype, False, False)
    assert sdpa.trusted_with_pairs("cpu", dtype)


def test_the_trial_does_not_see_the_modes_of_who_asks_first() -> None:
    """A validation comes first, under inference mode; a model's cost is counted on fake tensors."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.inference_mode():
        assert kernels._trusted("cpu", torch.float32)
        assert sdpa.trusted("cpu", torch.float32, True, False)
    kernels._trusted.cache_clear()
    sdpa._trusted.cache_clear()
    with torch.no_grad(), FakeTensorMode(), torch.device("meta"):
        assert kernels._trusted("cpu", torch.float32)
        assert sdpa.trusted("cpu", torch.float32, True, False)


def _keyless_rows_are_not_a_number(run: Callable) -> Callable:
    def wrong(d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out, lse, mask: Tensor | None, scale: float):
        d_q, d_k, d_v = run(d_out, q, k, v, out, lse, mask, scale)
        if mask is None:
            return d_q, d_k, d_v
        return torch.where(mask.any(dim=3, keepdim=True).expand_as(d_q), d_q, torch.nan), d_k, d_v

    return wrong


def test_an_operator_that_fails_only_where_a_row_has_no_key_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "_cpu_backward", _keyless_rows_are_not_a_number(kernels._cpu_backward))
    assert not kernels._trusted("cpu", torch.float32)
    assert "runs in plain PyTorch, which is slower: wrong with a mask of keys" in caplog.text


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "all real"])
def test_a_wrong_kernel_of_pytorchs_own_is_not_used_for_dense_attention(
    masked: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the attention is right all the same: by the operators with a log-sum-exp."""
    right = sdpa.scaled_dot_product_attention

    def wrong(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
        return right(q, k, v, attn_mask=attn_mask, scale=scale) * (1.01 if (attn_mask is not None) == masked else 1)

    q, k, v = (torch.randn(2, 2, n, 8) for n in (5, 7, 7))
    keep = torch.tensor([[True] * 4 + [False] * 3, [False] * 7]) if masked else None
    expected = DenseAttention(2, 8)(q, k, v, Geometry(), Geometry(keep)).out
    sdpa._trusted.cache_clear()
    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", wrong)
    found = DenseAttention(2, 8)(q, k, v, Geometry(), Geometry(keep)).out
    torch.testing.assert_close(found, expected)
    assert "is not used" in caplog.text


def test_a_kernel_that_is_wrong_with_a_mask_of_pairs_runs_no_window(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = sdpa.scaled_dot_product_attention

    def wrong(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
        pairs = attn_mask is not None and attn_mask.shape[2] > 1
        return right(q, k, v, attn_mask=attn_mask, scale=scale) * (1.01 if pairs else 1)

    q, k, v = (torch.randn(2, 2, n, 8) for n in (5, 7, 7))
    sides = [Geometry(None, torch.arange(float(n)).expand(2, -1)) for n in (5, 7)]
    window = ExactAttention(2, 8, pattern=partial(TimeWindow, past_s=1.0, future_s=1.0))
    expected = window(q, k, v, *sides).out
    sdpa._trusted.cache_clear()
    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", wrong)
    torch.testing.assert_close(window(q, k, v, *sides).out, expected)
    assert "is not used" in caplog.text


def test_products_that_cuda_rounds_to_tf32_do_not_fail_the_trial_and_wrong_ones_do() -> None:
    """A product of float32 whose factors have TF32's ten bits, as on a GPU where TF32 is allowed."""
    given = trust.sample(torch.float32)
    exact = kernels.definition(given, None)
    rough = [x.mul(1024 / x.abs().max()).round().mul(x.abs().max() / 1024) for x in given.inputs]
    out, lse = kernels.forward(*rough, None, trust.SCALE)
    trust.check((out, lse), exact[:2], trust.rounding("cuda", torch.float32), "TF32")
    with pytest.raises(AssertionError, match="wrong with TF32"):
        trust.check((out, lse), exact[:2], trust.rounding("cpu", torch.float32), "TF32")
    with pytest.raises(AssertionError, match="wrong with TF32"):
        trust.check((1.02 * out, lse), exact[:2], trust.rounding("cuda", torch.float32), "TF32")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "one graph"])
def test_dense_attention_is_one_graph_though_it_is_tried(compiled: bool) -> None:
    attention = DenseAttention(2, 8)

    def run(q: Tensor, keep: Tensor) -> Tensor:
        return attention(q, q, q, Geometry(), Geometry(keep)).out

    q, keep = torch.randn(2, 2, 5, 8, requires_grad=True), torch.tensor([[True] * 3 + [False] * 2, [False] * 5])
    out = (torch.compile(run, fullgraph=True, backend="eager") if compiled else run)(q, keep)
    (gradient,) = torch.autograd.grad(out.sum(), q)
    assert gradient.isfinite().all()
    assert not out[1].any()
