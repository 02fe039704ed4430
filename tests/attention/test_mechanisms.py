"""What every mechanism of conf/attention keeps, whatever it computes. A new one is a class, a yaml file, and a row here
where its defaults do not suit eleven keys.

Shape legend as in attention/interface.py: B clips, H heads, Lq queries, Lk keys, D channels of a head.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.recurrent.gru_additive import GRUAdditiveAttention
from mmattn.config.compose import build, group_choices, read_choice

B, H, LQ, D = 2, 2, 5, 8
SEGMENTS = (("video", 4), ("audio", 7))
LK = 11
MASS = frozenset({"mass"})

SETTINGS = {  # at the size of these tests: overrides of the yaml file
    "time_window": ["pattern.past_s=0.3", "pattern.future_s=0.2"],
    "sliding": ["pattern.past=1", "pattern.future=2"],
    "dilated": ["pattern.past=1", "pattern.future=1", "pattern.dilation=2"],
    "global_local": ["pattern.past=0", "pattern.future=1", "pattern.global_tokens=1"],
    "strided": ["pattern.stride=2"],
    "bigbird": ["pattern.block=2", "pattern.past=0", "pattern.future=0", "pattern.random=1", "pattern.global_tokens=1"],
    "topk_blocks": ["pattern.block=2", "pattern.chosen_blocks=2"],
    "lsh": ["pattern.bucket=3", "pattern.rounds=2"],
    "routing": ["pattern.cluster=4"],
    "linformer": ["rank=3", "positions=6"],
    "nystrom": ["landmarks=3"],
    "coarse_fine": ["coarse=3", "fine_s=0.2"],
    "token_merging": ["neighbours=1"],
}
OTHER_VALUES = {GRUAdditiveAttention}  # what is read is not v


def make(name: str) -> Attention:
    torch.manual_seed(5)
    settings = OmegaConf.from_dotlist(SETTINGS.get(name, []))
    spec = OmegaConf.merge(OmegaConf.create(read_choice("attention", name)), settings)
    return build(OmegaConf.to_container(spec))(H, D).eval()


@pytest.fixture(scope="module", params=group_choices("attention"))
def attention(request: pytest.FixtureRequest) -> Attention:
    return make(request.param)


def inputs(dtype: torch.dtype = torch.float32, lq: int = LQ, lk: int = LK, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(B, H, length, D, generator=generator, dtype=torch.float64) for length in (lq, lk, lk))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def geometries(keep: Tensor | None = None, lq: int = LQ) -> tuple[Geometry, Geometry]:
    """Queries at 5 Hz; video keys at 4 Hz, audio keys at 10 Hz, both other in the second clip."""
    video, audio = torch.arange(4) / 4, torch.arange(7) / 10
    time = torch.stack([torch.cat([video, audio + 0.05]), torch.cat([video * 1.3, audio])])
    return Geometry(None, (torch.arange(lq) / 5).expand(B, -1), (("video", lq),)), Geometry(keep, time, SEGMENTS)


def some_kept() -> Tensor:
    """One clip with padding in both segments, one with the whole second segment missing."""
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 3], keep[0, 9:] = False, False
    keep[1, 4:] = False
    return keep


@pytest.mark.parametrize("lq", [1, LK, 3 * LK])
def test_lengths_may_differ_either_way(attention: Attention, lq: int) -> None:
    out = attention(*inputs(lq=lq), *geometries(lq=lq)).out
    assert out.shape == (B, H, lq, D)
    assert out.isfinite().all()


def test_a_single_key_is_read_whole(attention: Attention) -> None:
    q, k, v = inputs(lk=1)
    keys = Geometry(None, torch.zeros(B, 1), (("video", 1),))
    result = attention(q, k, v, Geometry(None, torch.zeros(B, LQ)), keys, MASS & attention.supports)
    assert result.out.isfinite().all()
    assert result.out.abs().sum() > 0
    for mass in result.stats.values():
        torch.testing.assert_close(mass, torch.ones(B, H, LQ, 1))


@pytest.mark.parametrize(("clips", "lq", "lk"), [(B, 0, LK), (B, LQ, 0), (B, 0, 0), (0, LQ, LK), (0, 1, 1)])
def test_no_clips_no_queries_or_no_keys_give_nothing_or_zero(
    attention: Attention, clips: int, lq: int, lk: int
) -> None:
    q, k, v = (x[:clips] for x in inputs(lq=lq, lk=lk))
    keys = Geometry(torch.ones(clips, lk, dtype=torch.bool), torch.zeros(clips, lk), (("video", lk), ("audio", 0)))
    queries = Geometry(None, torch.zeros(clips, lq))
    result = attention(q, k, v, queries, keys, MASS & attention.supports)
    assert result.out.shape == (clips, H, lq, D)
    assert not result.out.any()
    assert not any(stat.any() for stat in result.stats.values())


def test_permuting_the_keys_of_a_segment_with_their_geometry_changes_nothing(attention: Attention) -> None:
    q, k, v = inputs()
    queries, keys = geometries(some_kept())
    generator = torch.Generator().manual_seed(3)
    order = torch.cat([torch.randperm(4, generator=generator), 4 + torch.randperm(7, generator=generator)])
    moved = Geometry(keys.keep[:, order], keys.time[:, order], SEGMENTS)
    before = attention(q, k, v, queries, keys, MASS & attention.supports)
    after = attention(q, k[:, :, order], v[:, :, order], queries, moved, MASS & attention.supports)
    _same(after, before)


def test_permuting_the_queries_with_their_geometry_permutes_the_result(attention: Attention) -> None:
    q, k, v = inputs()
    queries, keys = geometries(some_kept())
    order = torch.randperm(LQ, generator=torch.Generator().manual_seed(3))
    after = attention(q[:, :, order], k, v, Geometry(None, queries.time[:, order], queries.segments), keys).out
    torch.testing.assert_close(after, attention(q, k, v, queries, keys).out[:, :, order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_padding_changes_nothing(attention: Attention, place: str) -> None:
    """Not its amount, its place, its values nor its times."""
    q, k, v = inputs()
    queries, keys = geometries()
    at = {"before": 0, "within": 2, "after": 4}[place]

    def padded(x: Tensor, value: float, dim: int) -> Tensor:
        first, rest = x.split([at, x.shape[dim] - at], dim=dim)
        shape = list(x.shape)
        shape[dim] = 3
        return torch.cat([first, torch.full(shape, value, dtype=x.dtype), rest], dim=dim)

    keep = padded(torch.ones(B, LK), 0, 1).bool()
    more = Geometry(keep, padded(keys.time, 0.4, 1), (("video", 7), ("audio", 7)))
    more_queries = Geometry(padded(torch.ones(B, LQ), 0, 1).bool(), padded(queries.time, 0.3, 1), (("video", LQ + 3),))
    before = attention(q, k, v, queries, keys, MASS & attention.supports)
    after = attention(
        padded(q, 5.0, 2), padded(k, 1e4, 2), padded(v, 1e4, 2), more_queries, more, MASS & attention.supports
    )
    real = more_queries.keep[0]
    _same(AttentionOutput(after.out[:, :, real], {n: stat[:, :, real] for n, stat in after.stats.items()}), before)


@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
@pytest.mark.parametrize("time", [torch.nan, torch.inf, -torch.inf])
def test_padding_needs_no_time(attention: Attention, time: float, stats: frozenset[str]) -> None:
    queries, keys = geometries(some_kept())
    queries = Geometry(torch.tensor([[True] * LQ, [True] * (LQ - 1) + [False]]), queries.time, queries.segments)
    found = []
    for value in (0.0, time):
        sides = [Geometry(g.keep, g.time.masked_fill(~g.keep, value), g.segments) for g in (queries, keys)]
        given = [x.requires_grad_() for x in inputs()]
        result = attention(*given, *sides, stats & attention.supports)
        real = [x.transpose(1, 2)[queries.keep] for x in (result.out, *result.stats.values())]
        gradients = torch.autograd.grad(sum(x.square().sum() for x in real), given, materialize_grads=True)
        found.append([*real, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_clip_is_attended_to_alone_as_in_a_batch(attention: Attention) -> None:
    q, k, v = inputs()
    queries, keys = geometries(some_kept())
    together = attention(q, k, v, queries, keys, MASS & attention.supports)
    for clip in range(B):
        one = slice(clip, clip + 1)
        alone = attention(
            *(x[one] for x in (q, k, v)),
            Geometry(None, queries.time[one], queries.segments),
            Geometry(keys.keep[one], keys.time[one], SEGMENTS),
            MASS & attention.supports,
        )
        _same(alone, AttentionOutput(together.out[one], {n: stat[one] for n, stat in together.stats.items()}))


@pytest.mark.parametrize("stats", [frozenset(), MASS], ids=["plain", "mass"])
def test_a_query_without_a_key_gives_zero_and_finite_gradients(attention: Attention, stats: frozenset[str]) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs())
    keep = some_kept()
    keep[0] = False
    result = attention(q, k, v, *geometries(keep), stats & attention.supports)
    assert not result.out[0].any()
    assert result.out[1].any()
    assert not any(stat[0].any() for stat in result.stats.values())
    sum(x.square().sum() for x in (result.out, *result.stats.values())).backward()
    for tensor in (q, k, v):
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[0].any()
        assert tensor.grad[1].any()


def _gradcheck(attention: Attention, of: Callable[[AttentionOutput], Tensor], stats: frozenset[str]) -> None:
    q, k, v = (tensor[:, :, :4].contiguous().requires_grad_() for tensor in inputs(torch.float64))
    keep = torch.tensor([[True, True, False, True], [True] * 4])
    keys = Geometry(keep, torch.arange(4.0).expand(B, -1) / 5, (("video", 2), ("audio", 2)))
    queries = Geometry(None, torch.arange(4.0).expand(B, -1) / 5)
    attention = attention.double()
    try:
        run = lambda q, k, v: of(attention(q, k, v, queries, keys, stats))  # noqa: E731
        assert torch.autograd.gradcheck(run, (q, k, v), fast_mode=True)  # along random directions
    finally:
        attention.float()


def test_gradients_are_right(attention: Attention) -> None:
    _gradcheck(attention, lambda result: result.out, frozenset())


def test_gradients_of_output_and_statistics_are_right(attention: Attention) -> None:
    stats = attention.supports - {"weights"}
    if not stats:
        pytest.skip(f"{type(attention).__name__} measures nothing")

    def mixed(result: AttentionOutput) -> Tensor:
        weighted = [x * torch.linspace(0.5, 2, x.numel()).view(x.shape) for _, x in sorted(result.stats.items())]
        return torch.cat([x.flatten() for x in (result.out, *weighted)])

    _gradcheck(attention, mixed, stats)


@pytest.mark.parametrize("grad", [False, True], ids=["no gradient", "gradient"])
def test_measuring_changes_nothing_but_the_stats(attention: Attention, grad: bool) -> None:
    q, k, v = (tensor.requires_grad_(grad) for tensor in inputs())
    plain = attention(q, k, v, *geometries(some_kept()))
    assert not plain.stats
    names = sorted(attention.supports)
    for stats in itertools.chain.from_iterable(itertools.combinations(names, n) for n in (1, len(names))):
        measured = attention(q, k, v, *geometries(some_kept()), frozenset(stats))
        assert set(measured.stats) == set(stats)
        torch.testing.assert_close(measured.out, plain.out, rtol=0, atol=1e-6)


@pytest.mark.parametrize("keep", [None, some_kept()], ids=["all real", "a missing segment"])
def test_statistics_are_those_of_the_explicit_weights(attention: Attention, keep: Tensor | None) -> None:
    if "weights" not in attention.supports:
        pytest.skip(f"{type(attention).__name__} has no explicit weights")
    q, k, v = inputs()
    queries, keys = geometries(keep)
    result = attention(q * 3, k, v, queries, keys, attention.supports)
    weights = result.stats["weights"]
    if type(attention) not in OTHER_VALUES:
        torch.testing.assert_close(weights @ v, result.out, rtol=0, atol=1e-5)
    total = weights.sum(-1)
    share = weights / torch.where(total == 0, 1.0, total)[..., None]
    expected = {
        "mass": torch.stack([part.sum(-1) for part in share.split([count for _, count in SEGMENTS], dim=-1)], -1),
        "entropy": -torch.xlogy(share, share).sum(-1),
        "mean_time": (share * keys.time[:, None, None]).sum(-1),
    }
    for name in attention.supports - {"weights"}:
        torch.testing.assert_close(result.stats[name], expected[name], rtol=0, atol=1e-5 if name != "mass" else 1e-6)
    if keep is not None:
        assert not weights[~keep[:, None, None].expand_as(weights)].any()


def test_mass_sums_to_one(attention: Attention) -> None:
    if "mass" not in attention.supports:
        pytest.skip(f"{type(attention).__name__} has no mass")
    q, k, v = inputs()
    for size in (1, 1000):
        mass = attention(q * size, k, v, *geometries(some_kept()), MASS).stats["mass"]
        assert mass.shape == (B, H, LQ, len(SEGMENTS))
        read = mass.sum(-1) > 0
        assert read.any()
        torch.testing.assert_close(mass.sum(-1), read.float(), rtol=0, atol=1e-5)
        assert not mass[1, ..., 1].any(), "a missing segment"


def test_an_empty_segment_has_no_mass(attention: Attention) -> None:
    q, k, v = inputs(lk=4)
    keys = Geometry(None, torch.zeros(B, 4), (("video", 4), ("audio", 0)))
    queries = Geometry(None, torch.zeros(B, LQ))
    result = attention(q, k, v, queries, keys, MASS & attention.supports)
    for mass in result.stats.values():
        torch.testing.assert_close(mass, torch.tensor([1.0, 0.0]).expand(B, H, LQ, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_half_and_near(attention: Attention, dtype: torch.dtype) -> None:
    half = attention(*inputs(dtype), *geometries(some_kept()), MASS & attention.supports)
    single = attention(*(x.float() for x in inputs(dtype)), *geometries(some_kept()), MASS & attention.supports)
    assert half.out.dtype == dtype
    assert (half.out.float() - single.out).abs().max() <= 16 * torch.finfo(dtype).eps * single.out.abs().max()
    for name, stat in half.stats.items():
        assert (stat.float() - single.stats[name]).abs().max() <= 16 * torch.finfo(dtype).eps


def test_under_autocast_it_trains(attention: Attention) -> None:
    q, k, v = (tensor.requires_grad_() for tensor in inputs())
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(q @ torch.eye(D), k @ torch.eye(D), v @ torch.eye(D), *geometries(some_kept())).out
    out.float().square().sum().backward()
    assert all(tensor.grad.isfinite().all() and tensor.grad.any() for tensor in (q, k, v))


def test_stats_it_does_not_define_raise(attention: Attention) -> None:
    with pytest.raises(ValueError, match="clairvoyance"):
        attention(*inputs(), *geometries(), frozenset({"clairvoyance"}))


def test_segments_that_do_not_cover_the_keys_raise(attention: Attention) -> None:
    if "mass" not in attention.supports:
        pytest.skip(f"{type(attention).__name__} has no mass")
    queries, keys = geometries()
    wrong = Geometry(None, keys.time, (("video", 3), ("audio", 7)))
    with pytest.raises(ValueError, match=r"10 keys.*11"):
        attention(*inputs(), queries, wrong, MASS)


def test_it_says_what_it_costs_and_where_it_is_from(attention: Attention) -> None:
    assert all(isinstance(text, str) and text for text in (attention.time_cost, attention.memory_cost))
    assert attention.reference


def _same(one: AttentionOutput, other: AttentionOutput) -> None:
    torch.testing.assert_close(one.out, other.out, rtol=0, atol=1e-6)
    for name, stat in other.stats.items():
        torch.testing.assert_close(one.stats[name], stat, rtol=0, atol=1e-6)
