"""Which pairs each pattern reads, against predicates written from the papers; and that what it reads is read exactly.

Shape legend as in attention/interface.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import explicit, gather, masked
from mmattn.attention.exact.backends.explicit import softmax
from mmattn.attention.exact.dense import DenseAttention
from mmattn.attention.interface import Geometry, Normaliser, Pattern
from mmattn.attention.patterns.bigbird import BigBird
from mmattn.attention.patterns.dilated import DilatedWindow
from mmattn.attention.patterns.lsh import LSH
from mmattn.attention.patterns.routing import Routing
from mmattn.attention.patterns.sliding import SlidingWindow
from mmattn.attention.patterns.strided import Strided
from mmattn.attention.patterns.time_window import TimeWindow
from mmattn.attention.patterns.topk_blocks import TopKBlocks

H, D = 2, 4
WEIGHTS = frozenset({"weights"})
ALL = frozenset({"weights", "mass", "entropy", "mean_time"})


@pytest.fixture(autouse=True)
def _gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, as with many tokens: few would be masked (test_masked.py)."""
    monkeypatch.setattr(masked, "FEW_PAIRS", 0)


def attention(pattern: Callable[..., Pattern], **settings) -> ExactAttention:
    return ExactAttention(H, D, pattern=partial(pattern, **settings))


def vectors(b: int, lq: int, lk: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(b, H, n, D, generator=generator, dtype=torch.float64) for n in (lq, lk, lk))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def read(mechanism: ExactAttention, queries: Geometry, keys: Geometry, b: int, lq: int, lk: int) -> Tensor:
    """Which pairs are read (B, Lq, Lk), the same in all heads."""
    q, k, v = vectors(b, lq, lk)
    pairs = mechanism(q, k, v, queries, keys, WEIGHTS).stats["weights"] > 0
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    return pairs[:, 0]


def alone(length: int) -> Geometry:
    """One full segment in order, for self-attention."""
    return Geometry(None, torch.arange(length)[None] / 10, (("all", length),))


def pairs_of(predicate: Callable[[int, int], bool], lq: int, lk: int) -> Tensor:
    return torch.tensor([[bool(predicate(i, j)) for j in range(lk)] for i in range(lq)])[None]


@pytest.mark.parametrize(
    ("pattern", "predicate"),
    [
        (partial(SlidingWindow, past=3, future=2), lambda i, j: -3 <= j - i <= 2),
        (partial(SlidingWindow, past=4, future=0), lambda i, j: 0 <= i - j <= 4),
        (
            partial(DilatedWindow, past=2, future=1, dilation=3),
            lambda i, j: (j - i) % 3 == 0 and -2 <= (j - i) / 3 <= 1,
        ),
        (partial(Strided, stride=5), lambda i, j: abs(i - j) <= 5 or (i - j) % 5 == 0),
        (
            partial(SlidingWindow, past=1, future=1, global_tokens=2),
            lambda i, j: abs(i - j) <= 1 or i < 2 or j < 2,
        ),
        (partial(TimeWindow, past_s=0.35, future_s=0.2), lambda i, j: -3 <= j - i <= 2),
        (partial(TimeWindow, past_s=math.inf, future_s=0.0), lambda i, j: j <= i),
        (
            partial(BigBird, block=4, past=1, future=0, random=0, global_tokens=0),
            lambda i, j: -1 <= j // 4 - i // 4 <= 0,
        ),
    ],
    ids=["sliding", "causal", "dilated", "strided", "global and local", "time", "causal in time", "blocks"],
)
@pytest.mark.parametrize("length", [1, 2, 23, 64])
def test_in_self_attention_a_pattern_reads_what_its_paper_says(
    pattern: Callable[..., Pattern], predicate: Callable[[int, int], bool], length: int
) -> None:
    mechanism = ExactAttention(H, D, pattern=pattern)
    found = read(mechanism, alone(length), alone(length), 1, length, length)
    assert torch.equal(found, pairs_of(predicate, length, length))


def two_streams(seed: int, b: int = 3, lq: int = 9, video: int = 7, audio: int = 12) -> tuple[Geometry, Geometry]:
    """Streams of other rates and starts, with padding anywhere, in no order of time."""
    generator = torch.Generator().manual_seed(seed)

    def times(length: int, rate: float) -> Tensor:
        start = torch.rand(b, 1, generator=generator) * 3 - 1
        grid = start + (torch.arange(length) + 0.3 * torch.rand(b, length, generator=generator)) / rate
        return grid.gather(1, torch.rand(b, length, generator=generator).argsort(dim=1))

    keep = torch.rand(b, video + audio, generator=generator) < 0.8
    keep[1, video:] = False
    q_keep = torch.rand(b, lq, generator=generator) < 0.8
    segments = (("video", video), ("audio", audio))
    keys = Geometry(keep, torch.cat([times(video, 4.0), times(audio, 10.0)], dim=1), segments)
    return Geometry(q_keep, times(lq, 5.0), (("video", lq),)), keys


def by_loops(
    queries: Geometry, keys: Geometry, predicate: Callable[[dict, dict], bool], globals_: int = 0, named: str = ""
) -> Tensor:
    """What each real query reads: the pairs of local tokens for which `predicate` holds, and everything global.

    A token is described by its time, its segment, its place among the segment's real tokens in time, and their number.
    """

    def tokens(geometry: Geometry, clip: int) -> list[dict | None]:
        keep, time = geometry.keep[clip].tolist(), geometry.time[clip].tolist()
        found: list[dict | None] = [None] * len(keep)
        offset = 0
        for number, (name, count) in enumerate(geometry.segments):
            real = sorted((time[at], at) for at in range(offset, offset + count) if keep[at])
            for place, (t, at) in enumerate(real):
                is_global = name == named or (number == 0 and place < globals_)
                found[at] = {"time": t, "segment": number, "place": place, "n": len(real), "global": is_global}
            offset += count
        return found

    rows = []
    for clip in range(len(keys.keep)):
        q_tokens, k_tokens = tokens(queries, clip), tokens(keys, clip)
        rows.append(
            [[bool(i and j and (i["global"] or j["global"] or predicate(i, j))) for j in k_tokens] for i in q_tokens]
        )
    return torch.tensor(rows)


def aligned(i: dict, j: dict) -> int:
    """Where the query stands among the keys of j's segment."""
    return round((2 * i["place"] + 1) * j["n"] / (2 * i["n"]) - 0.5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("pattern", "predicate"),
    [
        (partial(TimeWindow, past_s=0.4, future_s=0.25), lambda i, j: -0.4005 <= j["time"] - i["time"] <= 0.2505),
        (partial(SlidingWindow, past=2, future=1), lambda i, j: -2 <= j["place"] - aligned(i, j) <= 1),
        (
            partial(DilatedWindow, past=1, future=1, dilation=2),
            lambda i, j: j["place"] - aligned(i, j) in (-2, 0, 2),
        ),
        (
            partial(Strided, stride=3),
            lambda i, j: abs(j["place"] - aligned(i, j)) <= 3 or (j["place"] - aligned(i, j)) % 3 == 0,
        ),
    ],
    ids=["time", "sliding", "dilated", "strided"],
)
@pytest.mark.parametrize("globals_", [{}, {"global_tokens": 2}, {"global_segments": ["video"]}], ids=str)
def test_over_streams_of_other_rates_starts_and_padding_too(
    pattern: partial, predicate: Callable[[dict, dict], bool], globals_: dict, seed: int
) -> None:
    queries, keys = two_streams(seed)
    mechanism = ExactAttention(H, D, pattern=partial(pattern, **globals_))
    found = read(mechanism, queries, keys, 3, 9, 19)
    names = globals_.get("global_segments", [""])
    assert torch.equal(found, by_loops(queries, keys, predicate, globals_.get("global_tokens", 0), names[0]))


EVERYTHING = {
    "time": partial(TimeWindow, past_s=10.0, future_s=10.0),
    "no limit": partial(TimeWindow, past_s=math.inf, future_s=math.inf),
    "sliding": partial(SlidingWindow, past=20, future=20),
    "dilated": partial(DilatedWindow, past=20, future=20, dilation=1),
    "strided": partial(Strided, stride=1),
    "bigbird": partial(BigBird, block=3, past=0, future=0, random=9),
    "topk": partial(TopKBlocks, block=3, chosen_blocks=9),
    "lsh": partial(LSH, bucket=19, rounds=2),
    "routing": partial(Routing, cluster=19),
    "global keys": partial(TimeWindow, past_s=0.0, future_s=0.0, global_segments=["video", "audio"]),
}


@pytest.mark.parametrize("pattern", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_a_pattern_that_holds_everything_is_dense_attention(pattern: Callable[..., Pattern]) -> None:
    queries, keys = two_streams(0)
    q, k, v = vectors(3, 9, 19)
    real = queries.keep[:, None, :, None]
    dense = DenseAttention(H, D)(q, k, v, queries, keys, ALL)
    sparse = ExactAttention(H, D, pattern=pattern)(q, k, v, queries, keys, ALL)
    torch.testing.assert_close(sparse.out, dense.out * real, rtol=0, atol=1e-12)
    for name in ALL:
        expected = dense.stats[name] * (real if dense.stats[name].ndim == 4 else real[..., 0])
        torch.testing.assert_close(sparse.stats[name], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("lengths", [(300, 200, 110), (40, 500, 3), (129, 0, 64)], ids=str)
def test_long_windows_equal_masked_dense_attention_forward_and_backward(
    lengths: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in chunks, and with statistics that carry gradients."""
    lq, video, audio = lengths
    queries, keys = two_streams(4, 3, lq, video, audio)
    window = attention(TimeWindow, past_s=1.5, future_s=0.5, global_tokens=1)
    mask = by_loops(queries, keys, lambda i, j: -1.5005 <= j["time"] - i["time"] <= 0.5005, 1)[:, None]

    def run(how: Callable) -> list[Tensor]:
        q, k, v = (x.requires_grad_() for x in vectors(3, lq, video + audio))
        out, mass = how(q, k, v)
        total = (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum() + (mass[..., 0] ** 2).sum()
        return [out, mass, *torch.autograd.grad(total, (q, k, v))]

    def masked(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = softmax(q @ k.mT / math.sqrt(D), mask)
        return weights @ v, torch.stack([part.sum(-1) for part in weights.split([video, audio], dim=-1)], -1)

    def windowed(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        result = window(q, k, v, queries, keys, frozenset({"mass"}))
        return result.out, result.stats["mass"]

    expected = run(masked)
    for elements in (gather.GATHER_ELEMENTS, 5000):
        monkeypatch.setattr(gather, "GATHER_ELEMENTS", elements)
        for ours, theirs in zip(run(windowed), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_random_blocks_follow_from_the_seed_and_are_as_many_as_asked() -> None:
    length, block = 96, 8

    def blocks(seed: int) -> Tensor:
        mechanism = attention(BigBird, block=block, past=1, future=1, random=2, seed=seed)
        pairs = read(mechanism, alone(length), alone(length), 1, length, length)[0]
        whole = pairs.view(length // block, block, length // block, block)
        assert torch.equal(whole.any(3).any(1), whole.all(3).all(1))
        return whole.any(3).any(1)

    drawn = blocks(0)
    near = (torch.arange(12)[:, None] - torch.arange(12)).abs() <= 1
    assert drawn[near].all()
    assert ((drawn & ~near).sum(1) == 2).all()
    assert torch.equal(blocks(0), drawn)
    assert not torch.equal(blocks(1), drawn)
    spread = torch.stack([blocks(seed) & ~near for seed in range(40)]).double().mean(0)[~near]
    assert spread.min() > 0.02
    assert spread.max() < 0.6, "every far block is drawn about as often: 2 of 9 or 10"


def test_the_best_blocks_are_those_of_the_highest_mean_score() -> None:
    q, k, v = vectors(1, 12, 20)
    keys = Geometry(torch.arange(20)[None] != 7, torch.arange(20)[None] / 10, (("all", 20),))
    mechanism = attention(TopKBlocks, block=4, chosen_blocks=2)
    weights = mechanism(q, k, v, alone(12), keys, WEIGHTS).stats["weights"]
    real = [j for j in range(20) if j != 7]
    blocks = [real[at : at + 4] for at in range(0, 19, 4)]
    for h, n in itertools.product(range(H), range(3)):
        mean_query = q[0, h, 4 * n : 4 * n + 4].mean(0)
        scores = [float(mean_query @ k[0, h, block].mean(0)) for block in blocks]
        best = sorted(range(5), key=lambda m: -scores[m])[:2]
        expected = sorted(j for m in best for j in blocks[m])
        for i in range(4 * n, 4 * n + 4):
            assert weights[0, h, i].nonzero()[:, 0].tolist() == expected


def test_lsh_reads_the_keys_that_share_a_bucket_in_any_round() -> None:
    bucket, rounds, n = 5, 3, 40
    mechanism = attention(LSH, bucket=bucket, rounds=rounds, seed=2)
    q, k, v = vectors(1, n, n)
    weights = mechanism(q, k, v, alone(n), alone(n), WEIGHTS).stats["weights"]
    pattern = mechanism.pattern
    for h in range(H):
        expected = torch.zeros(n, n, dtype=torch.bool)
        for number in range(rounds):
            rotation = pattern._rotation(q, number, 64)[:, : math.ceil(n / bucket / 2)].double()

            def hashed(x: Tensor, rotation: Tensor = rotation) -> tuple[int, float]:
                turned = x / x.norm() @ rotation
                both = torch.cat([turned, -turned])
                return int(both.argmax()), float(both.max())

            of_q, of_k = [hashed(x)[0] for x in q[0, h]], [hashed(x) for x in k[0, h]]
            for name in {name for name, _ in of_k}:
                members = sorted((j for j in range(n) if of_k[j][0] == name), key=lambda j: -of_k[j][1])[: 2 * bucket]
                for i in range(n):
                    if of_q[i] == name:
                        expected[i, members] = True
        assert torch.equal(weights[0, h] > 0, expected)
        assert 0.1 < expected.double().mean() < 0.7


def test_lsh_finds_near_keys_more_often_with_more_rounds() -> None:
    """Andoni et al. 2015: the collision probability rises with the cosine; misses fall as (1 - p) ^ rounds."""
    n = 256
    q, _, v = vectors(1, n, n, seed=3)
    k = q + 0.1 * torch.randn(q.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def found(rounds: int) -> float:
        mechanism = attention(LSH, bucket=16, rounds=rounds)
        weights = mechanism(q, k, v, alone(n), alone(n), WEIGHTS).stats["weights"]
        return float((weights.diagonal(dim1=2, dim2=3) > 0).double().mean())

    once, twice, eight = found(1), found(2), found(8)
    assert 0.5 < once < twice < eight
    assert 1 - twice == pytest.approx((1 - once) ** 2, abs=0.12)
    assert eight > 0.97


def test_routing_reads_the_keys_of_the_nearest_centroid() -> None:
    n, cluster, iterations = 30, 8, 2
    q, k, v = vectors(1, n, n, seed=5)
    mechanism = attention(Routing, cluster=cluster, iterations=iterations)
    weights = mechanism(q, k, v, alone(n), alone(n), WEIGHTS).stats["weights"]
    for h in range(H):
        queries, keys = (x / x.norm(dim=1, keepdim=True) for x in (q[0, h], k[0, h]))
        centroids = [keys[(2 * c + 1) * n // 8] for c in range(4)]
        for _ in range(iterations):
            members = [max(range(4), key=lambda c: float(x @ centroids[c])) for x in keys]
            for c in range(4):
                if c in members:
                    total = sum(x for x, of in zip(keys, members, strict=True) if of == c)
                    centroids[c] = total / total.norm()
        for i in range(n):
            c = max(range(4), key=lambda c: float(queries[i] @ centroids[c]))
            best = sorted(range(n), key=lambda j: -float(keys[j] @ centroids[c]))[:cluster]
            assert weights[0, h, i].nonzero()[:, 0].tolist() == sorted(best)


def test_routing_finds_separate_clusters() -> None:
    centres = torch.eye(D, dtype=torch.float64)
    of, q_of = torch.arange(32) // 8, torch.arange(32) % 4
    q, k = ((5 * centres[which] + torch.randn(32, D, dtype=torch.float64)).expand(1, H, -1, -1) for which in (q_of, of))
    weights = attention(Routing, cluster=8)(q, k, k, alone(32), alone(32), WEIGHTS).stats["weights"]
    assert torch.equal(weights[0, 0] > 0, q_of[:, None] == of)


@pytest.mark.parametrize(
    ("pattern", "settings", "reason"),
    [
        (TimeWindow, {"past_s": -1.0, "future_s": 0.0}, "past_s=-1.0"),
        (TimeWindow, {"past_s": math.nan, "future_s": 0.0}, "past_s=nan"),
        (DilatedWindow, {"past": 1, "future": 1, "dilation": 0}, "dilation=0"),
        (Strided, {"stride": 0}, "stride=0"),
        (BigBird, {"block": 0, "past": 1, "future": 1, "random": 1}, "block=0"),
        (BigBird, {"block": 4, "past": 1, "future": 1, "random": -1}, "random=-1"),
        (TopKBlocks, {"block": 4, "chosen_blocks": 0}, "chosen_blocks=0"),
        (LSH, {"bucket": 0, "rounds": 1}, "bucket=0"),
        (Routing, {"cluster": 0}, "cluster=0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(pattern: Callable[..., Pattern], settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        attention(pattern, **settings)


def test_a_time_window_without_times_is_refused() -> None:
    q, k, v = vectors(1, 3, 3)
    with pytest.raises(ValueError, match="needs the times"):
        attention(TimeWindow, past_s=1.0, future_s=1.0)(q, k, v, Geometry(), Geometry())


class Plain(Normaliser):
    """Softmax again, by the way of a normaliser; it needs to see all heads at once."""

    reference = "here"

    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        return softmax(scores + torch.arange(H)[:, None, None], mask)


@pytest.mark.parametrize(
    "pattern",
    [
        None,
        partial(TimeWindow, past_s=0.6, future_s=0.3, global_tokens=1),
        partial(TopKBlocks, block=2, chosen_blocks=2, global_tokens=1),
        partial(Routing, cluster=5),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 24, 100], ids=["whole", "chunks"])
def test_a_normaliser_by_explicit_scores_gives_what_the_fused_softmax_gives(
    pattern: Callable[..., Pattern] | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explicit, "CHUNK_ELEMENTS", chunk)
    queries, keys = two_streams(2)
    queries = Geometry(None, queries.time, queries.segments)
    found = []
    for normaliser in (None, Plain):
        q, k, v = (x.requires_grad_() for x in vectors(3, 9, 19))
        result = ExactAttention(H, D, pattern=pattern, normaliser=normaliser)(q, k, v, queries, keys, ALL)
        total = result.out.square().sum() + result.stats["mass"][..., 0].sum() + result.stats["entropy"].sum()
        found.append(
            [result.out, *(result.stats[name] for name in sorted(ALL)), *torch.autograd.grad(total, (q, k, v))]
        )
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(plain, fused, rtol=0, atol=1e-10)


def test_a_normaliser_that_cannot_be_merged_is_refused_with_patterns_that_merge() -> None:
    with pytest.raises(ValueError, match="Strided merges softmaxes over its parts, which Plain does not allow"):
        ExactAttention(H, D, pattern=partial(Strided, stride=2), normaliser=Plain)


def test_patterns_add_nothing_to_a_state_dict() -> None:
    """A model trained dense can be evaluated under any of them."""
    for pattern in EVERYTHING.values():
        assert not ExactAttention(H, D, pattern=pattern).state_dict()
