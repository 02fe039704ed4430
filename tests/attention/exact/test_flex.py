"""FlexAttention's masks, on a processor: the same pairs and results as gathered blocks.

Speed and gradients need CUDA: scripts/benchmarks/attention_cuda.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask, flex_attention

from mmattn.attention.exact.backends import flex, flex_check, flex_kernel
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.sliding import SlidingWindow
from mmattn.attention.patterns.time_window import TimeWindow

B, H, D = 2, 2, 16
LQ, SEGMENTS = 300, (("video", 0), ("audio", 500), ("latent", 5))
PATTERNS = {
    "time": partial(TimeWindow, past_s=2.5, future_s=1.0),
    "globals": partial(TimeWindow, past_s=0.5, future_s=0.0, global_tokens=2, global_segments=["latent"]),
    "sliding": partial(SlidingWindow, past=200, future=150),
    "nothing": partial(TimeWindow, past_s=0.0, future_s=0.0),
}


def _inputs() -> tuple[tuple[Tensor, ...], Geometry, Geometry]:
    generator = torch.Generator().manual_seed(0)
    lk = sum(count for _, count in SEGMENTS)
    q, k, v = (torch.randn(B, H, n, D, generator=generator) for n in (LQ, lk, lk))
    keep = torch.rand(B, lk, generator=generator) < 0.9
    keep[1, 100:300] = False
    queries = Geometry(torch.rand(B, LQ, generator=generator) < 0.9, torch.rand(B, LQ, generator=generator) * 12)
    return (q, k, v), queries, Geometry(keep, torch.rand(B, lk, generator=generator) * 10, SEGMENTS)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_it_gives_what_gathered_blocks_give(pattern: partial) -> None:
    (q, k, v), queries, keys = _inputs()
    made = pattern(H, D)
    segments = keys.lengths(k.shape[2])
    expected = attend(q, k, v, None, made.plan(q, k, queries, keys), segments, 0.3)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it says that it is slow when it is not compiled
        found = flex.attend(q, k, v, flex.plan(made, q, k, queries, keys), 0.3, kernel=flex_attention)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_tiles_are_called_empty_or_full_only_where_they_are(pattern: partial) -> None:
    """And the mask of an audio segment has both: this is what the speed comes from."""
    (q, k, _), queries, keys = _inputs()
    windows = flex.plan(pattern(H, D), q, k, queries, keys)
    assert windows.masks[0] is None
    for mask, key in zip(windows.masks[1:], windows.keys[1:], strict=True):
        length = key.shape[1]
        pairs = create_mask(mask.mask_mod, B, None, LQ, length, device="cpu")
        tiles = torch.nn.functional.pad(pairs, (0, -length % 128, 0, -LQ % 128)).unflatten(3, (-1, 128))
        tiles = tiles.unflatten(2, (-1, 128)).transpose(3, 4)  # (B, 1, N, M, 128, 128)
        some, whole = _dense(mask.kv_num_blocks, mask.kv_indices), _dense(mask.full_kv_num_blocks, mask.full_kv_indices)
        assert not (some & whole).any()
        assert not tiles.any(5).any(4)[~(some | whole)].any(), "an empty tile holds a pair"
        assert tiles.all(5).all(4)[whole].all(), "a full tile lacks a pair"
        if pattern is PATTERNS["time"] and length == 500:
            assert not (some | whole).all()
        if pattern is PATTERNS["sliding"] and length == 500:
            assert whole.any()


def _dense(number: Tensor, index: Tensor) -> Tensor:
    """The listed tiles as a matrix (B, 1, N, M)."""
    listed = torch.arange(index.shape[-1]) < number[..., None]
    return torch.zeros_like(index, dtype=torch.bool).scatter(3, index.long(), listed)


def test_it_is_for_long_sequences_on_cuda() -> None:
    (q, k, v), *_ = _inputs()
    assert not flex_check.usable(q, k, v)


@pytest.fixture
def kernels_of_their_own() -> Iterator[None]:
    """No callable of another test, and none left for the next."""
    flex_kernel.compiled.cache_clear()
    flex_check.works.cache_clear()
    yield
    flex_kernel.compiled.cache_clear()
    flex_check.works.cache_clear()


def _run(clips: int, lq: int, lk: int, backend: str = "eager") -> Tensor:
    """As one graph: its guards are what is tested here, which need no compiler."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(clips, H, n, D, generator=generator) for n in (lq, lk, lk))
    sides = [Geometry(None, torch.rand(clips, n, generator=generator) * 10) for n in (lq, lk)]
    windows = flex.plan(TimeWindow(H, D, 1.0, 1.0), q, k, *sides)
    return flex.attend(q, k, v, windows, 0.3, flex_kernel.compiled(flex_kernel.key_of(q, k, v), backend))[0]


@pytest.mark.usefixtures("kernels_of_their_own")
def test_other_lengths_and_numbers_of_clips_need_few_graphs() -> None:
    """After training: the last batch of one clip, validation with other lengths, and any number of those."""
    with torch.no_grad():
        for clips, lq, lk in ((2, 300, 400), (4, 300, 400), (1, 300, 400), (3, 333, 433), (1, 512, 500), (2, 256, 384)):
            _run(clips, lq, lk)
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for length in range(301, 501, 20):
            _run(2 + length % 3, length, length + 77)
            _run(1, length + 1, length + 7)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before <= 2


@pytest.mark.usefixtures("kernels_of_their_own")
def test_at_the_limit_of_graphs_it_raises_and_does_not_make_the_full_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_kernel, "MOST_GRAPHS", 1)
    with torch.no_grad():
        _run(2, 300, 400)
        with pytest.raises(RuntimeError, match=r"more than 1 kinds of shapes.*fewer different lengths"):
            for clips, length in ((1, 300), (2, 1), (3, 555)):
                _run(clips, length, 1)


def test_each_type_width_and_gradient_mode_has_a_callable_of_its_own() -> None:
    q, k, v = _inputs()[0]
    wants = [x.clone().requires_grad_() for x in (q, k, v)]
    keys = [
        flex_kernel.key_of(q, k, v),
        flex_kernel.key_of(*wants),
        flex_kernel.key_of(q, *wants[1:]),
        flex_kernel.key_of(q.bfloat16(), k.bfloat16(), v.bfloat16()),
        flex_kernel.key_of(q, k, torch.cat([v, v], dim=3)),
    ]
    with torch.no_grad():
        assert flex_kernel.key_of(*wants) == keys[0], "without gradients, what wants them is as what does not"
    assert len({flex_kernel.compiled(key) for key in keys}) == len(keys)
    assert flex_kernel.compiled(flex_kernel.key_of(q[:1], k[:1, :, :7], v[:1, :, :7])) is flex_kernel.compiled(keys[0])


@pytest.mark.parametrize("width", [1, 17])
def test_values_of_any_width_reach_the_compiler_in_one_that_it_takes(width: int) -> None:
    """The mean attended time is one channel; entropy and time together one more than the keys have."""
    (q, k, v), queries, keys = _inputs()
    v = torch.cat([v, v], dim=3)[..., :width]
    seen = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, **rest):
        seen.append({x.shape[3] % flex_kernel.NARROWEST for x in (q, k, v)})
        return flex_attention(q, k, v, **rest)

    made = PATTERNS["time"](H, D)
    expected = attend(q, k, v, None, made.plan(q, k, queries, keys), keys.lengths(k.shape[2]), 0.3)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = flex.attend(q, k, v, flex.plan(made, q, k, queries, keys), 0.3, kernel)
    assert seen == [{0}] * 2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("kernels_of_their_own")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_tried_with_what_is_used_and_a_wrong_kernel_is_not_taken(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without gradients, which it does not have on a processor: asking for them is a failed trial that is reported."""
    key = ("cpu", dtype, 16, 32, (False, False, False))
    assert flex_check.works(key, "eager")
    assert not flex_check.works((*key[:-1], (True, True, True)), "eager")
    assert "windows are gathered instead" in caplog.text
    right, ignored = flex._attend, []

    def wrong(q, k, v, windows, scale, kernel):
        """As if the masks of blocks were not looked at where a row has no key."""
        out, mass, lse = right(q, k, v, windows, scale, kernel)
        ignored.append(lse.isneginf().sum())
        return torch.where(lse.isneginf()[..., None], 1.0, out), mass, lse

    flex_check.works.cache_clear()
    monkeypatch.setattr(flex, "_attend", wrong)
    assert not flex_check.works(key, "eager")
    assert ignored[0] > 0
