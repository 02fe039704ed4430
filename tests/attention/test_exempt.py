"""Learned tokens and summaries: neither order nor windows bind them, in any mechanism.

Streams of 4 and 7 tokens over 30 s, far beyond every window, and two segments of three exempt tokens each.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_mechanisms import make
from torch import Tensor

from mmattn.attention.hierarchical.coarse_fine import CoarseFineAttention
from mmattn.attention.interface import Geometry
from mmattn.config.compose import group_choices

H, D = 2, 8
NAMES = group_choices("attention")
STREAMS, EXEMPT = (("video", 4), ("audio", 7)), (("latent", 3), ("bottleneck", 3))
L = 17
KEEP = torch.ones(1, L, dtype=torch.bool)
KEEP[0, [3, 9, 13]] = False


def _geometry(instant: float = 15.0, exempt: frozenset[str] = frozenset({"latent", "bottleneck"})) -> Geometry:
    time = torch.cat([torch.linspace(0, 30, 4), torch.linspace(0, 30, 7) + 0.01, torch.full((6,), instant)])[None]
    return Geometry(KEEP, time, STREAMS + EXEMPT, exempt)


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    q, k, v = torch.randn(3, 1, H, L, D, generator=generator, dtype=torch.float64)
    return q / 100, k, v.requires_grad_()  # scores that are nearly equal: sparse normalisers leave none out


@pytest.mark.parametrize("name", NAMES)
def test_exempt_queries_read_every_key_and_every_query_reads_exempt_keys(name: str) -> None:
    q, k, v = _inputs()
    out = make(name).double()(q, k, v, _geometry(), _geometry()).out
    if not name.startswith("gru"):  # what those read is not v, and no query reads less than another
        reads = torch.stack(
            [torch.autograd.grad(out[0, :, i].sum(), v, retain_graph=True)[0][0, 0].ne(0).any(1) for i in range(L)]
        )
        streams = torch.arange(L) < 11
        real = KEEP[0, :, None] & KEEP[0]
        assert not reads[:, ~KEEP[0]].any()
        assert reads[real & ~(streams[:, None] & streams)].all()
    for instant in (0.0, 500.0):
        moved = make(name).double()(q, k, v, _geometry(instant), _geometry(instant)).out
        torch.testing.assert_close(moved, out, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["time_window", "sliding", "dilated", "strided", "global_local", "bigbird", "lsh"])
@pytest.mark.parametrize("side", ["queries", "keys"])
def test_where_one_side_is_exempt_a_pattern_reads_all(name: str, side: str) -> None:
    q, k, v = _inputs()
    free, bound = replace(_geometry(), exempt=frozenset(dict(STREAMS + EXEMPT))), _geometry(exempt=frozenset())
    sides = (free, bound) if side == "queries" else (bound, free)
    stats = frozenset({"mass", "entropy", "mean_time", "weights"})
    found, dense = (make(one).double()(q, k, v, *sides, stats) for one in (name, "dense"))
    torch.testing.assert_close(found.out, dense.out)
    for stat in stats:
        torch.testing.assert_close(found.stats[stat], dense.stats[stat])


@pytest.mark.parametrize("name", NAMES)
def test_mass_counts_exempt_keys(name: str) -> None:
    q, k, v = _inputs()
    attention = make(name).double()
    if "mass" not in attention.supports:
        pytest.skip(f"{name} has no mass")
    plain = attention(q, k, v, _geometry(), _geometry()).out
    result = attention(q, k, v, _geometry(), _geometry(), frozenset({"mass"}))
    torch.testing.assert_close(result.out, plain)
    mass = result.stats["mass"][:, :, KEEP[0]]
    torch.testing.assert_close(mass.sum(dim=-1), torch.ones_like(mass[..., 0]))
    assert (mass[..., 2:] > 0).all()


@pytest.mark.parametrize("causal", [False, True])
def test_a_gate_forgets_nothing_between_tokens_of_which_one_is_exempt(causal: bool) -> None:
    q, k, v = _inputs()
    attention, geometry = make("gated_linear").double(), _geometry()
    attention.causal = causal
    with torch.no_grad():
        attention.decay_weight.normal_()
        found = attention(q, k, v, geometry, geometry).out[0]
        exempt, time = (torch.arange(L) >= 11), geometry.time[0]
        of_q, of_k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
        gates = torch.nn.functional.softplus(
            (v @ attention.decay_weight[:, :, None])[..., 0] + attention.decay_bias[:, None]
        )[0]
        for h in range(H):
            for i in KEEP[0].nonzero()[:, 0]:
                weights = torch.zeros(L, dtype=torch.float64)
                for j in KEEP[0].nonzero()[:, 0]:
                    if time[j] <= time[i]:
                        between = (time > time[j]) & (time <= time[i])
                    else:
                        between = (time > time[i]) & (time < time[j])
                    gone = gates[h, between & KEEP[0] & ~exempt].sum() * ~(exempt[i] | exempt[j])
                    seen = not causal or bool(exempt[i] | exempt[j] | (time[j] <= time[i]))
                    weights[j] = of_q[0, h, i] @ of_k[0, h, j] * torch.exp(-gone) * seen
                torch.testing.assert_close(found[h, i], weights @ v[0, h] / weights.sum())


def test_coarse_fine_reads_exempt_tokens_one_by_one() -> None:
    """With one group a stream and nothing near: a stream's query reads two means and the exempt keys themselves."""
    q, k, v = _inputs()
    attention, geometry = CoarseFineAttention(H, D, coarse=1, fine_s=0.0), _geometry()
    found = attention(q, k, v, geometry, geometry).out
    dense = make("dense").double()(q, k, v, geometry, geometry).out
    told = torch.arange(L).ge(11) & KEEP[0]
    torch.testing.assert_close(found[:, :, told], dense[:, :, told])
    parts = [[0, 1, 2], [4, 5, 6, 7, 8, 10], *([i] for i in (11, 12, 14, 15, 16))]
    keys, values = (torch.stack([x[0, :, part].mean(dim=1) for part in parts], dim=1) for x in (k, v))
    sizes = torch.tensor([float(len(part)) for part in parts]).double().log()
    weights = torch.softmax(q[0, :, 0, None] @ keys.mT / math.sqrt(D) + sizes, dim=-1)
    torch.testing.assert_close(found[0, :, 0], (weights @ values)[:, 0], rtol=1e-6, atol=1e-6)
