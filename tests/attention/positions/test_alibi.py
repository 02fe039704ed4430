"""ALiBi on seconds: what the definition gives in float64, in every exact mechanism and whatever backend runs it."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.exact.backends import gather, masked, timed
from mmattn.attention.exact.dense import DenseAttention
from mmattn.attention.interface import STATS, Attention, Geometry
from mmattn.attention.patterns.time_window import TimeWindow
from mmattn.attention.positions.alibi import ALiBi
from mmattn.config.compose import build, group_choices, read_choice

B, H, D, LQ, VIDEO, AUDIO = 3, 4, 8, 13, 9, 21
SHORTEST_S, LONGEST_S = 0.3, 5.0
SMALL = {
    "time_window": ["pattern.past_s=1.5", "pattern.future_s=0.7", "pattern.global_tokens=1"],
    "bigbird": ["pattern.block=4"],
    "topk_blocks": ["pattern.block=4", "pattern.chosen_blocks=2"],
    "lsh": ["pattern.bucket=5"],
    "routing": ["pattern.cluster=6"],
}
EXACT = [n for n in group_choices("attention") if isinstance(build(read_choice("attention", n))(H, D), ExactAttention)]


def plain(name: str) -> Attention:
    torch.manual_seed(5)
    spec = OmegaConf.merge(
        OmegaConf.create(read_choice("attention", name)), OmegaConf.from_dotlist(SMALL.get(name, []))
    )
    return build(OmegaConf.to_container(spec))(H, D).eval()


def with_bias(attention: Attention) -> Attention:
    return ALiBi(H, D, SHORTEST_S, LONGEST_S).prepare(attention)


def problem(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Geometry, Geometry]:
    """The second clip has padding and no sound, the third no key at all; two queries and three keys are latents."""
    generator = torch.Generator().manual_seed(1)
    lk = VIDEO + AUDIO + 3
    inputs = [torch.randn(B, H, n, D, generator=generator).double().to(dtype) for n in (LQ, lk, lk)]
    times = [6 * torch.rand(B, n, generator=generator) + torch.tensor([[0.0], [50.0], [3.0]]) for n in (LQ, lk)]
    keep = torch.ones(B, lk, dtype=torch.bool)
    keep[1, 5:7] = keep[1, VIDEO : VIDEO + AUDIO] = keep[2] = False
    times[1][~keep] = -77.0
    latent = frozenset({"latent"})
    of_q = Geometry(None, times[0], (("video", LQ - 2), ("latent", 2)), latent)
    return inputs, of_q, Geometry(keep, times[1], (("video", VIDEO), ("audio", AUDIO), ("latent", 3)), latent)


def distances(of_q: Geometry, of_k: Geometry) -> Tensor:
    """|t_q - t_k| / s_h, spelt out."""
    away = torch.zeros(B, H, of_q.time.shape[1], of_k.time.shape[1], dtype=torch.float64)
    exempt = [geometry.exempt_flags(geometry.time) for geometry in (of_q, of_k)]
    for b, h, i, j in torch.cartesian_prod(*(torch.arange(n) for n in away.shape)).tolist():
        if of_k.keep[b, j] and not exempt[0][i] and not exempt[1][j]:
            seconds = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** (h / (H - 1))
            away[b, h, i, j] = (of_q.time[b, i].double() - of_k.time[b, j].double()).abs() / seconds
    return away


def reference(name: str) -> tuple[Tensor, Tensor]:
    """The weights, and their sums to 1: pairs of the unbiased mechanism, its scores less the distances, its weights."""
    (q, k, v), of_q, of_k = problem()
    attention = plain(name).double()
    assert isinstance(attention, ExactAttention)
    dense = torch.ones(1, 1, LQ, 1, dtype=torch.bool) & of_k.keep[:, None, None]
    read = dense
    if attention.pattern is not None:
        read = DenseAttention(H, D).double()
        read.pattern, read._pattern = attention.pattern, attention._pattern
        read = read(q, k, v, of_q, of_k, frozenset({"weights"})).stats["weights"] > 0
    turned_q, turned_k, scale = attention.score(q, k)
    scores = scale * turned_q @ turned_k.mT - distances(of_q, of_k)
    if attention.normaliser is not None:
        weights = attention.normaliser(scores, read.expand_as(scores))
    else:
        weights = torch.softmax(scores.masked_fill(~read, -math.inf), dim=-1).nan_to_num(0.0)
    total = weights.sum(dim=-1, keepdim=True)
    return weights, weights / torch.where(total == 0, 1.0, total)


@pytest.mark.parametrize("gathered", [False, True], ids=["as chosen", "gathered"])
@pytest.mark.parametrize("name", EXACT)
def test_output_and_statistics_are_those_of_the_definition(
    name: str, gathered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the backend is chosen for few pairs, and in blocks, in chunks of a few pairs."""
    if gathered:
        monkeypatch.setattr(masked, "FEW_PAIRS", 0)
        monkeypatch.setattr(timed, "CHUNK_ELEMENTS", 1)
        monkeypatch.setattr(gather, "GATHER_ELEMENTS", 1)
    (q, k, v), of_q, of_k = problem()
    attention = with_bias(plain(name)).double()
    weights, shares = reference(name)
    asked = attention.supports
    found = attention(q, k, v, of_q, of_k, asked)
    torch.testing.assert_close(found.out, weights @ v, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.stats["weights"], weights, rtol=1e-5, atol=1e-6)
    mass = torch.stack([part.sum(dim=-1) for part in shares.split([VIDEO, AUDIO, 3], dim=-1)], dim=-1)
    torch.testing.assert_close(found.stats["mass"].double(), mass, rtol=1e-5, atol=1e-6)
    mean_time = (shares @ of_k.time.masked_fill(~of_k.keep, 0.0)[:, None, :, None].double())[..., 0]
    torch.testing.assert_close(found.stats["mean_time"].double(), mean_time, rtol=1e-5, atol=1e-4)
    if "entropy" in asked:
        entropy = -torch.where(shares > 0, shares * shares.clamp(min=1e-300).log(), 0.0).sum(dim=-1)
        torch.testing.assert_close(found.stats["entropy"].double(), entropy, rtol=1e-5, atol=1e-5)
    alone = attention(q, k, v, of_q, of_k).out
    torch.testing.assert_close(alone, weights @ v, rtol=1e-5, atol=1e-6)
    by_mass = attention(q, k, v, of_q, of_k, frozenset({"mass"}))
    torch.testing.assert_close(by_mass.out, weights @ v, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(by_mass.stats["mass"].double(), mass, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stats", [(), ("mass",), ("mass", "mean_time")], ids="-".join)
@pytest.mark.parametrize("name", ["dense", "time_window", "strided", "entmax", "lsh"])
def test_gradients_are_right(name: str, stats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "CHUNK_ELEMENTS", 200)
    monkeypatch.setattr(masked, "FEW_PAIRS", 0)
    (q, k, v), of_q, of_k = problem()
    attention = with_bias(plain(name)).double()

    def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        found = attention(q, k, v, of_q, of_k, frozenset(stats))
        return found.out, *found.stats.values()

    assert torch.autograd.gradcheck(run, [x.requires_grad_() for x in (q, k, v)], fast_mode=True)


def test_causal_windows_are_those_of_a_loop_in_float64() -> None:
    """future_s=0: the distances are Press et al.'s, of keys that are not after the query."""
    (q, k, v), of_q, of_k = problem()
    window = partial(TimeWindow, past_s=math.inf, future_s=0.0)
    found = with_bias(ExactAttention(H, D, pattern=window)).double()(q, k, v, of_q, of_k).out
    away = distances(of_q, of_k)
    free_q, free_k = (geometry.exempt_flags(geometry.time) for geometry in (of_q, of_k))
    for b in range(B):
        for i in range(LQ):
            before = of_k.time[b] <= of_q.time[b, i] + 0.0005
            read = of_k.keep[b] & (before | free_q[i] | free_k)
            scores = (k[b, :, read] @ q[b, :, i, :, None])[..., 0] / math.sqrt(D) - away[b, :, i, read]
            expected = (torch.softmax(scores, dim=-1)[:, None] @ v[b, :, read])[:, 0] if read.any() else 0 * q[b, :, i]
            torch.testing.assert_close(found[b, :, i], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["dense", "time_window", "entmax"])
def test_half_types_keep_their_type_and_are_as_near_as_their_inputs(name: str, dtype: torch.dtype) -> None:
    (q, k, v), of_q, of_k = problem(dtype)
    attention = with_bias(plain(name))
    found = attention(q, k, v, of_q, of_k, frozenset({"mass"}))
    exact = attention(q.float(), k.float(), v.float(), of_q, of_k, frozenset({"mass"}))
    assert found.out.dtype == dtype and found.stats["mass"].dtype == torch.float32
    torch.testing.assert_close(found.out, exact.out.to(dtype))
    torch.testing.assert_close(found.stats["mass"], exact.stats["mass"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "time_window", "bigbird"])
def test_it_compiles_as_one_graph_with_gradients_and_mass(name: str) -> None:
    inputs, of_q, of_k = problem(torch.float32)
    attention, stats = with_bias(plain(name)), frozenset({"mass"})

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = attention(q, k, v, of_q, of_k, stats)
        return (found.out * v[:, :, :LQ]).sum() + found.stats["mass"].square().sum()

    given = [x.requires_grad_() for x in inputs]
    eager = torch.autograd.grad(run(*given), given)
    compiled = torch.autograd.grad(torch.compile(run, fullgraph=True, backend="aot_eager")(*given), given)
    for one, other in zip(compiled, eager, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", [name for name in group_choices("attention") if name not in EXACT])
def test_a_mechanism_without_scores_of_pairs_is_refused_in_a_line(name: str) -> None:
    attention = plain(name)
    with pytest.raises(ValueError, match=re.escape(f"{type(attention).__name__} scores no pairs")) as refused:
        with_bias(attention)
    assert "\n" not in str(refused.value)


def test_entropy_is_refused_where_no_part_has_all_scores() -> None:
    attention = with_bias(plain("strided"))
    assert attention.supports == STATS - {"entropy"}
    inputs, *sides = problem()
    with pytest.raises(ValueError, match="does not define \\['entropy'\\]"):
        attention(*inputs, *sides, frozenset({"entropy"}))


@pytest.mark.parametrize("seconds", [(0.0, 1.0), (2.0, 1.0), (0.1, math.inf), (-1.0, 1.0)])
def test_seconds_that_make_no_range_are_refused(seconds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < shortest_s <= longest_s"):
        ALiBi(H, D, *seconds)
