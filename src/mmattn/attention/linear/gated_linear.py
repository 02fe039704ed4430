"""Gated linear attention: a recurrence that forgets, with a state of fixed size, run in chunks in linear time.

Along the keys in the order of time S_j = f_j S_(j-1) + phi(k_j) v_j^T, and a query reads the state of its own instant,
phi(q_i) S (Yang et al. 2024; one gate a head as in Mamba-2, Dao & Gu 2024). Written as attention:

weight_ij ~ phi(q_i) . phi(k_j) prod f_u, over the keys u after j up to i;   log f_j = -softplus(gate_h . v_j + bias_h)

Unless `causal`, a second recurrence with the same gates runs back from the end, so that a query reads what comes after
it too (over the keys u from i up to, not including, j). Each key is read once, weights are divided by their sum, and
phi is elu + 1. If one of two tokens is exempt from order, nothing is forgotten between them, and an exempt key has no
gate.

Shape legend as in interface.py; E events (keys and queries in one order), N chunks of C events, F features, V values.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.linear.linear import elu_plus_one
from mmattn.attention.order import real, times
from mmattn.attention.statistics import columns, read_columns

CHUNK = 64


class GatedLinearAttention(Attention):
    """At first a head forgets over about 4 tokens (the first head) to 1024 (the last)."""

    exact = True
    supports = frozenset({"mass", "mean_time"})
    time_cost = "(Lq + Lk) D^2"
    memory_cost = "(Lq + Lk) D"
    reference = "Yang et al. 2024"

    def __init__(self, heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(heads, head_dim)
        self.causal = causal
        self.decay_weight = nn.Parameter(torch.zeros(heads, head_dim))
        spans = torch.logspace(math.log10(4), math.log10(1024), heads)
        self.decay_bias = nn.Parameter(torch.log(torch.expm1(1 / spans)))  # softplus(decay_bias) = 1 / span

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        wide = torch.promote_types(q.dtype, torch.float32)
        keep = real(k_geometry, k)
        with torch.autocast(q.device.type, enabled=False):
            of_k = elu_plus_one(k.to(wide)).masked_fill(~keep[:, None, :, None], 0.0)
            decay = softplus(
                (v.to(wide) @ self.decay_weight.to(wide)[..., None])[..., 0] + self.decay_bias.to(wide)[:, None]
            )
            decay = decay.masked_fill(~keep[:, None], 0.0)  # (B, H, Lk): -log f
            extra = pad(columns(k, k_geometry, stats), (0, 1), value=1.0)[:, None].expand(-1, self.heads, -1, -1)
            values = torch.cat([v.to(wide), extra], dim=-1)
            found = self._found(elu_plus_one(q.to(wide)), of_k, values, decay, q_geometry, k_geometry)
        total = found[..., -1:]
        found = found[..., :-1] / torch.where(total > 0, total, 1.0)
        measured = read_columns(found[..., self.head_dim :], k_geometry, stats)
        return AttentionOutput(found[..., : self.head_dim].to(v.dtype), measured)

    def _found(
        self,
        of_q: Float[Tensor, "B H Lq F"],
        of_k: Float[Tensor, "B H Lk F"],
        values: Float[Tensor, "B H Lk V"],
        decay: Float[Tensor, "B H Lk"],
        q_geometry: Geometry,
        k_geometry: Geometry,
    ) -> Float[Tensor, "B H Lq V"]:
        """Sums of what the keys tell, by their weights: those in order by the recurrences, exempt ones as they are."""
        if q_geometry.all_exempt or k_geometry.all_exempt:
            # The gates have no say, and a gradient of 0: training in several processes wants one of every parameter.
            return of_q @ (of_k.mT @ values) + 0.0 * decay.sum()
        exempt_q, exempt_k = q_geometry.exempt_flags(of_q), k_geometry.exempt_flags(of_k)
        ordered = of_k
        if exempt_k is not None:
            ordered, decay = of_k.masked_fill(exempt_k[:, None], 0.0), decay.masked_fill(exempt_k, 0.0)
        order = _in_one_order(of_q, of_k, q_geometry, k_geometry)
        found = _read(of_q, torch.cat([ordered, values, decay[..., None]], dim=-1), order, self.causal)
        if exempt_k is not None:
            found = found + of_q @ ((of_k - ordered).mT @ values)
        if exempt_q is not None:
            found = torch.where(exempt_q[:, None], of_q @ (of_k.mT @ values), found)
        return found


def _in_one_order(q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> Int[Tensor, "B E"]:
    """Keys (from 0) and queries (from Lk) by time; a key comes before a query of the same time."""
    both = [torch.where(real(g, x), times(g, x), 0.0) for g, x in ((k_geometry, k), (q_geometry, q))]
    return torch.cat([x.to(both[0].dtype) for x in both], dim=1).argsort(dim=1, stable=True)


def _read(
    q: Float[Tensor, "B H Lq F"], keys: Float[Tensor, "B H Lk F+V+1"], order: Int[Tensor, "B E"], causal: bool
) -> Float[Tensor, "B H Lq V"]:
    """Both recurrences, read where the queries are. `keys` holds features, values and -log f side by side."""
    (lq, width), lk = q.shape[2:], keys.shape[2]
    place = order.argsort(dim=1)[:, lk:]  # of the queries
    order = pad(order, (0, -order.shape[1] % CHUNK), value=lk + lq)  # then events that are neither
    at_q = _chunks(_rows(q, torch.where(order < lk, lq, order - lk)))  # (B, H, N, C, F); 0 where a key is
    at_k, value, decay = _chunks(_rows(keys, order.clamp(max=lk))).split([width, keys.shape[3] - width - 1, 1], dim=-1)
    cumulative = decay.cumsum(dim=-2)  # (B, H, N, C, 1): forgotten from the chunk's start on, with this event
    chunk_decay = cumulative[..., -1:, :]
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=q.device).tril()  # keys at columns, queries at rows
    between = torch.where(
        lower, cumulative - cumulative.mT, torch.inf if causal else (cumulative - decay).mT - cumulative
    )
    found = (at_q @ at_k.mT * torch.exp(-between)) @ value
    state = _carry((at_k * torch.exp(cumulative - chunk_decay)).mT @ value, chunk_decay[..., 0, 0])
    found = found + (at_q * torch.exp(-cumulative)) @ state
    if not causal:
        ahead = (at_k * torch.exp(decay - cumulative)).mT @ value
        state = _carry(ahead.flip(2), chunk_decay[..., 0, 0].flip(2)).flip(2)
        found = found + (at_q * torch.exp(cumulative - chunk_decay)) @ state
    return _rows(found.flatten(2, 3), place)


def _carry(states: Float[Tensor, "B H N F V"], decay: Float[Tensor, "B H N"]) -> Float[Tensor, "B H N F V"]:
    """What each chunk starts with: sum over chunks m before n of states_m exp(-(decay_(m+1) + ... + decay_(n-1)))."""
    count = states.shape[2]
    if count > CHUNK:  # chunks of chunks
        padded = pad(states, (0, 0, 0, 0, 0, -count % CHUNK)).unflatten(2, (-1, CHUNK))
        decays = pad(decay, (0, -count % CHUNK)).unflatten(2, (-1, CHUNK))  # (B, H, N', C)
        inner = _inner_carry(padded, decays)
        chunk_states = inner[:, :, :, -1] * torch.exp(-decays[..., -1])[..., None, None] + padded[:, :, :, -1]
        outer = _carry(chunk_states, decays.sum(dim=-1))
        fade = torch.exp(decays - decays.cumsum(dim=-1))[..., None, None]
        return (inner + outer[:, :, :, None] * fade).flatten(2, 3)[:, :, :count]
    return _inner_carry(states, decay)


def _inner_carry(states: Float[Tensor, "*B N F V"], decay: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N F V"]:
    cumulative = decay.cumsum(dim=-1)
    lower = torch.ones(2 * states.shape[-3:-2], dtype=torch.bool, device=decay.device).tril(-1)
    fade = torch.where(lower, (cumulative - decay)[..., :, None] - cumulative[..., None, :], torch.inf)
    return (torch.exp(-fade) @ states.flatten(-2)).unflatten(-1, states.shape[-2:])


def _rows(x: Float[Tensor, "B H L X"], index: Int[Tensor, "B E"]) -> Float[Tensor, "B H E X"]:
    """Tokens by index; index L is a token of zeros."""
    rows = pad(x.transpose(1, 2).flatten(2), (0, 0, 0, 1))  # (B, L + 1, H X)
    offset = torch.arange(len(rows), device=x.device)[:, None] * rows.shape[1]
    taken = rows.flatten(0, 1).index_select(0, (index + offset).flatten())
    return taken.view(*index.shape, x.shape[1], -1).transpose(1, 2)


def _chunks(x: Float[Tensor, "B H E X"]) -> Float[Tensor, "B H N C X"]:
    return x.unflatten(2, (-1, CHUNK))
