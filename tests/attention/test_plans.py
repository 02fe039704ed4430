"""Plans are made once, nothing waits for a device, and every mechanism is one graph: with gradient, with mass.

Shape legend as in attention/interface.py.
"""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_mechanisms import geometries, inputs, make, some_kept
from torch import Tensor
from waits import host_reads

from mmattn.attention.exact.backends import masked
from mmattn.attention.interface import Geometry
from mmattn.attention.normalisers.entmax import entmax
from mmattn.attention.patterns.sparse import Windowed
from mmattn.config.compose import build, compose, group_choices, read_choice
from mmattn.fusion.interface import Fusion
from mmattn.types import MOST_KNOWN, Tokens

MASS = frozenset({"mass"})
PATTERNS = [name for name in group_choices("attention") if "pattern" in read_choice("attention", name)]
WINDOWS = ["time_window", "sliding", "global_local"]
DEPENDS_ON_TIMES = {*WINDOWS, "dilated", "strided", "coarse_fine"}


def _tokens(length: int, rate: float, seed: int) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(2, length, dtype=torch.bool)
    keep[0, -length // 5 :] = False
    times = torch.arange(length) / rate + torch.rand(2, length, generator=generator) / (3 * rate)
    return Tokens(torch.randn(2, length, 16, generator=generator), keep, times)


def _streams(seed: int = 0) -> tuple[Tokens, Tokens]:
    return _tokens(24, 4.0, seed), _tokens(40, 10.0, seed + 1)


def _cross(attention: str, *more: str) -> Fusion:
    torch.manual_seed(0)
    config = compose("train", ["fusion=cross", f"attention={attention}", "fusion.dim=16", "fusion.heads=2", *more])
    return build(config["fusion"])


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows over few tokens are gathered as those over many."""
    monkeypatch.setattr(masked, "FEW_PAIRS", 0)


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
@pytest.mark.parametrize("name", group_choices("attention"))
def test_no_mechanism_waits_for_the_device(name: str, stats: frozenset[str]) -> None:
    """Of tokens whose places are new, only plans whose size depends on times read numbers back: once a stream."""
    fusion = _cross(name, "fusion.layers=2").train()
    fusion(*_streams(7), stats)  # what is done once for a model
    streams = _streams()
    with host_reads() as first:
        fusion(*streams, stats)
    assert first.total() == (2 if name in DEPENDS_ON_TIMES else 0), first
    other = tuple(tokens.with_values(torch.randn_like(tokens.values)) for tokens in streams)
    with host_reads() as again:
        fused = fusion(*other, stats)
        total = fused.video.values.sum() + fused.audio.values.sum()
        (total + sum(layer.mass["audio"].square().sum() for layer in fused.stats)).backward()
    assert not again, again


@pytest.mark.parametrize("name", WINDOWS)
def test_a_mask_of_all_pairs_is_made_once_and_reads_nothing_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, fusion, pairs = Counter(), _cross(name, "fusion.layers=3"), masked.pairs
    fusion(*_streams(7), MASS)  # what is done once for a process

    def counted(pattern: Windowed, *given: Any) -> Tensor:
        made[type(pattern).__name__] += 1
        return pairs(pattern, *given)

    monkeypatch.setattr(masked, "pairs", counted)
    with host_reads() as found:
        fusion(*_streams(), MASS)
    assert not found, found
    assert list(made.values()) == [2], "one for each stream"


def test_host_reads_sees_what_waits() -> None:
    x = torch.arange(4.0)
    with host_reads() as found:
        x.tolist(), x[0].item(), bool(x.any()), x[x > 1], x.nonzero(), x.repeat_interleave(torch.tensor([1, 0, 2, 1]))
    assert found.total() >= 6
    with host_reads() as found:
        x.sum(), x.repeat_interleave(2), torch.where(x > 1, x, 0.0), x[torch.tensor([0, 2])]
    assert not found


@pytest.mark.parametrize("name", ["cross", "concat", "bottleneck", "perceiver", "hierarchical", "recurrent", "adapter"])
def test_fusions_find_the_places_of_tokens_again(name: str) -> None:
    torch.manual_seed(0)
    sizes = [] if name == "recurrent" else ["attention=time_window", "fusion.heads=2"]
    fusion = build(compose("train", [f"fusion={name}", "fusion.dim=16", *sizes])["fusion"])
    streams = _streams()
    fusion(*streams)
    with host_reads() as again:
        fusion(*streams)
    assert not again, again


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("name", group_choices("attention"))
def test_every_mechanism_is_one_graph(name: str) -> None:
    """With gradient and with mass, forward and backward; the same numbers as without a compiler."""
    attention = make(name)
    compiled, results = torch.compile(attention, fullgraph=True, backend="aot_eager"), []
    for run in (attention, compiled):
        given = [x.requires_grad_() for x in inputs()]
        result = run(*given, *geometries(some_kept()), MASS & attention.supports)
        total = result.out.square().sum() + sum(stat.square().sum() for stat in result.stats.values())
        gradients = torch.autograd.grad(total, given, materialize_grads=True)
        results.append((result.out, *result.stats.values(), *gradients))
    torch._dynamo.reset()
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("keys", [("latent",), ("video", "latent")], ids=" ".join)
@pytest.mark.parametrize("name", ["time_window", "strided", "lsh", "coarse_fine"])
def test_a_graph_knows_which_tokens_are_exempt(name: str, keys: tuple[str, ...]) -> None:
    attention = make(name)
    given, sides = inputs(), geometries(some_kept())
    sides = sides[0], replace(sides[1], segments=tuple(zip(keys, [11] if len(keys) == 1 else [4, 7], strict=True)))
    bound, free = sides[1], replace(sides[1], exempt=frozenset({"latent"}))
    expected = attention(*given, sides[0], free, MASS).out
    assert not torch.allclose(expected, attention(*given, sides[0], bound, MASS).out)
    found = torch.compile(attention, fullgraph=True, backend="aot_eager")(*given, sides[0], free, MASS).out
    torch._dynamo.reset()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("name", ["dense", "time_window", "topk_blocks"])
def test_a_fusion_is_one_graph_for_batches_of_other_plans(name: str) -> None:
    fusion = _cross(name, "fusion.layers=1", "fusion.dropout=0").eval()
    compiled = torch.compile(fusion, fullgraph=True, backend="aot_eager")
    for seed in (3, 5):  # other times, so that other sizes of plans
        streams = _streams(seed)
        expected, found = fusion(*streams, MASS), compiled(*streams, MASS)
        torch.testing.assert_close(found.video.values, expected.video.values, rtol=1e-4, atol=1e-5)
        found.audio.values.sum().backward()
    torch._dynamo.reset()


def test_a_plan_is_forgotten_with_its_tokens() -> None:
    fusion, streams = _cross("time_window"), _streams()
    fusion(*streams)
    keep = weakref.ref(streams[0].keep)
    gc.disable()
    try:
        del streams
        assert keep() is None, "something still holds the tokens of a batch that is over"
    finally:
        gc.enable()


@pytest.mark.parametrize("few", [0, 1 << 17], ids=["blocks", "masked"])
def test_a_copy_with_other_tokens_is_planned_anew(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "FEW_PAIRS", few)
    attention, given, sides = make("time_window"), inputs(), geometries(None)
    attention(*given, *sides)
    keep = some_kept()
    later = replace(sides[1], keep=keep)
    fresh = Geometry(keep, sides[1].time, sides[1].segments)
    assert torch.equal(attention(*given, sides[0], later).out, attention(*given, sides[0], fresh).out)


def test_another_setting_is_another_plan() -> None:
    streams = _streams()
    near, far = (_cross("time_window", f"attention.pattern.past_s={reach}") for reach in (0.1, 3.0))
    apart = [fusion(*streams).video.values for fusion in (near, far)]
    assert not torch.allclose(*apart)
    assert torch.equal(apart[1], far(*_streams()).video.values)


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("name", [*PATTERNS, "coarse_fine"])
def test_a_copy_plans_as_its_original(name: str) -> None:
    fusion = _cross(name).eval()
    expected = fusion(*_streams()).video.values
    for copied in (copy.deepcopy(fusion), pickle.loads(pickle.dumps(fusion))):
        assert torch.equal(copied(*_streams()).video.values, expected)


def test_geometries_without_tensors_share_no_plan() -> None:
    attention = build(read_choice("attention", "sliding"))(2, 8)
    bare = Geometry()
    for length in (5, 9):
        q, k = torch.randn(1, 2, length, 8), torch.randn(1, 2, 2 * length, 8)
        assert attention(q, k, k, bare, bare).out.shape == q.shape
    assert not bare.plans


def test_a_memo_does_not_grow_with_every_question() -> None:
    attention = build(read_choice("attention", "time_window"))(2, 8)
    keys = Geometry(None, torch.arange(6.0).expand(1, -1))
    k = torch.randn(1, 2, 6, 8)
    for step in range(2 * MOST_KNOWN):
        q = Geometry(None, torch.full((1, 1), float(step)))
        attention(k[:, :, :1], k, k, q, keys)
    assert len(keys.plans) == MOST_KNOWN


@pytest.mark.parametrize("alpha", [1.05, 1.5, 1.75, 2.0])
def test_the_threshold_of_entmax_is_met_in_the_steps_it_takes(alpha: float) -> None:
    """Rows that are hard for Newton's method: geometric gaps, powers, ties, many near the threshold."""
    for n in (1, 2, 15, 16, 100, 1000):
        i = torch.arange(n, dtype=torch.double)
        rows = [-scale * (1 - ratio**i) for ratio in (0.3, 0.5, 0.9, 0.99, 0.9999) for scale in (0.5, 1, 2, 8)]
        rows += [-scale * (i / n) ** power for power in (0.25, 0.5, 1, 2, 4) for scale in (0.0, 0.1, 3, 30)]
        rows += list(torch.randn(8, n, generator=torch.Generator().manual_seed(n), dtype=torch.double) * 0.1)
        given = torch.full((len(rows), 1), alpha, dtype=torch.double) if alpha not in (1.5, 2.0) else alpha
        p = entmax(torch.stack(rows), given)
        torch.testing.assert_close(p.sum(dim=-1), torch.ones(len(rows), dtype=torch.double), rtol=0, atol=1e-9)
