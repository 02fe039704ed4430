"""Windows over few tokens: a mask of all pairs gives what gathered blocks give, and the log says which runs."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import masked
from mmattn.attention.interface import AttentionOutput, Geometry
from mmattn.attention.patterns.sliding import SlidingWindow
from mmattn.attention.patterns.time_window import TimeWindow

B, H, D, LQ = 2, 2, 8, 30
SEGMENTS = (("video", 20), ("audio", 0), ("latent", 3), ("text", 14))
LK = sum(count for _, count in SEGMENTS)
STATS = frozenset({"mass", "entropy", "mean_time", "weights"})
PATTERNS = {
    "time": partial(TimeWindow, past_s=1.0, future_s=0.2),
    "no limit": partial(TimeWindow, past_s=0.5, future_s=float("inf")),
    "globals": partial(TimeWindow, past_s=0.3, future_s=0.0, global_tokens=2, global_segments=["latent"]),
    "sliding": partial(SlidingWindow, past=3, future=1),
    "sliding, globals": partial(SlidingWindow, past=0, future=2, global_tokens=1),
}


def _sides() -> tuple[Geometry, Geometry]:
    generator = torch.Generator().manual_seed(2)
    keeps = [torch.rand(B, n, generator=generator) < 0.8 for n in (LQ, LK)]
    keeps[1][1, 20:] = False  # no latent in the second clip: some of its queries read nothing
    times = [torch.rand(B, n, generator=generator) * 6 for n in (LQ, LK)]
    return Geometry(keeps[0], times[0], (("video", LQ - 2), ("latent", 2))), Geometry(keeps[1], times[1], SEGMENTS)


def _run(pattern: partial, few: int, monkeypatch: pytest.MonkeyPatch) -> tuple[AttentionOutput, list[Tensor]]:
    monkeypatch.setattr(masked, "FEW_PAIRS", few)
    generator = torch.Generator().manual_seed(0)
    q, k, v, weigh = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK, LQ))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    result = ExactAttention(H, D, pattern=pattern)(*inputs, *_sides(), STATS)
    total = (result.out * weigh).sum() + sum(result.stats[name].sum() for name in ("entropy", "mean_time"))
    return result, list(torch.autograd.grad(total + result.stats["mass"][..., 0].sum(), inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_with_nothing_measured_the_kernel_takes_the_mask(
    pattern: partial, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and gradients, for rows without keys too."""
    attention, sides = ExactAttention(H, D, pattern=pattern), _sides()
    generator = torch.Generator().manual_seed(1)
    exact = [torch.randn(B, H, n, D, generator=generator).to(dtype) for n in (LQ, LK, LK, LQ)]
    found = []
    for few, kind in ((1 << 17, dtype), (0, torch.float64)):
        monkeypatch.setattr(masked, "FEW_PAIRS", few)
        q, k, v = (x.to(kind).requires_grad_() for x in exact[:3])
        with torch.autocast("cpu", torch.bfloat16):
            out = attention(q, k, v, *sides).out
        assert out.dtype == kind
        found.append([out.detach(), *torch.autograd.grad(out, (q, k, v), exact[3].to(kind))])
    unit = torch.finfo(dtype).eps
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=8 * unit, atol=8 * unit * float(theirs.abs().max()))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_mask_gives_what_blocks_give(
    pattern: partial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mmattn"):
        found, slopes = _run(pattern, 1 << 17, monkeypatch)
        assert caplog.messages[-1].endswith(": masked")
        expected, exact = _run(pattern, 0, monkeypatch)
        assert caplog.messages[-1].endswith(": blocks")
    assert found.stats["mass"].sum(dim=-1).eq(0).any() or pattern.keywords.get("global_tokens"), "a row without keys"
    for ours, theirs in zip([found.out, *slopes], [expected.out, *exact], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for name in STATS:
        torch.testing.assert_close(found.stats[name], expected.stats[name], rtol=0, atol=1e-12)


def test_many_pairs_are_gathered() -> None:
    short, long = torch.zeros(16, 1, 171, 8), torch.zeros(1, 1, 4096, 8)
    assert masked.cheaper(short, short)
    assert not masked.cheaper(long, long)
    assert not masked.cheaper(long, short)
