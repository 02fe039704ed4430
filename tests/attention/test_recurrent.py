"""The recurrent mechanisms against their recurrences, step by step in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mmattn.attention.interface import Geometry
from mmattn.attention.linear import gated
from mmattn.attention.linear.gated import GatedLinearAttention
from mmattn.attention.recurrent.recurrent import GRUAdditiveAttention, GRUAttention

B, H, LQ, LK, D = 2, 2, 5, 9, 4
SEGMENTS = (("video", 4), ("audio", 5))


def _inputs() -> tuple[Tensor, Tensor, Tensor, Geometry, Geometry]:
    """Times of both sides are mixed, with ties of keys and queries and of keys among themselves."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, n, D, generator=generator, dtype=torch.float64) for n in (LQ, LK, LK))
    keep = torch.ones(B, LK, dtype=torch.bool)
    keep[0, 2], keep[1, 4:] = False, False
    at_k = torch.randint(0, 6, (B, LK), generator=generator) / 4
    at_q = torch.tensor([[1.0, 0.25, 0.6, -1.0, 9.0]]).expand(B, -1)
    return q, k, v, Geometry(None, at_q), Geometry(keep, at_k, SEGMENTS)


def _in_order(keys: Geometry, b: int) -> list[int]:
    assert keys.keep is not None
    assert keys.time is not None
    return sorted((j for j in range(LK) if keys.keep[b, j]), key=lambda j: (float(keys.time[b, j]), j))


def _gru(gru: nn.GRU, tokens: list[Tensor], suffix: str = "") -> list[Tensor]:
    """Cho et al. 2014, eq. 5-8, as torch.nn.GRU documents it."""
    w_in, w_state = gru.get_parameter(f"weight_ih_l0{suffix}"), gru.get_parameter(f"weight_hh_l0{suffix}")
    b_in, b_state = gru.get_parameter(f"bias_ih_l0{suffix}"), gru.get_parameter(f"bias_hh_l0{suffix}")
    h, states = torch.zeros(gru.hidden_size, dtype=torch.float64), []
    for x in tokens:
        (in_r, in_z, in_n), (h_r, h_z, h_n) = (w_in @ x + b_in).chunk(3), (w_state @ h + b_state).chunk(3)
        reset, update = torch.sigmoid(in_r + h_r), torch.sigmoid(in_z + h_z)
        h = (1 - update) * torch.tanh(in_n + reset * h_n) + update * h
        states.append(h)
    return states


def _both_ways(gru: nn.GRU, tokens: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The states beside each other at each token, and the last of each direction."""
    ahead, back = _gru(gru, tokens), _gru(gru, tokens[::-1], "_reverse")[::-1]
    return [torch.cat(pair) for pair in zip(ahead, back, strict=True)], torch.cat([ahead[-1], back[0]])


def test_the_bottleneck_is_two_last_states_and_a_gate_of_the_query() -> None:
    attention = GRUAttention(H, D, state=6).double().requires_grad_(False)
    q, k, v, queries, keys = _inputs()
    out = attention(q, k, v, queries, keys).out
    for b in range(B):
        tokens = [torch.cat([k[b, :, j].flatten(), v[b, :, j].flatten()]) for j in _in_order(keys, b)]
        summary = attention.out_proj(_both_ways(attention.gru, tokens)[1]).view(H, 1, D)
        torch.testing.assert_close(out[b], torch.sigmoid(q[b]) * summary, rtol=0, atol=1e-12)


def test_bahdanau_reads_the_states_with_additive_scores() -> None:
    attention = GRUAdditiveAttention(H, D).double().requires_grad_(False)
    q, k, v, queries, keys = _inputs()
    result = attention(q, k, v, queries, keys, frozenset({"weights"}))
    for b in range(B):
        order = _in_order(keys, b)
        states, _ = _both_ways(attention.gru, [torch.cat([k[b, :, j].flatten(), v[b, :, j].flatten()]) for j in order])
        for h in range(H):
            part = slice(h * D, (h + 1) * D)
            for i in range(LQ):
                scores = [
                    attention.attention.score[h] @ torch.tanh(q[b, h, i] + attention.k_proj(s)[part]) for s in states
                ]
                weights = torch.softmax(torch.stack(scores), dim=0)
                expected = sum(w * s[part] for w, s in zip(weights, states, strict=True))
                torch.testing.assert_close(result.out[b, h, i], expected, rtol=0, atol=1e-12)
                torch.testing.assert_close(result.stats["weights"][b, h, i, order], weights, rtol=0, atol=1e-12)


def _recurrences(attention: GatedLinearAttention, q: Tensor, k: Tensor, v: Tensor, queries: Geometry, keys: Geometry):
    """The module's recurrence S_j = f_j S_(j-1) + phi(k_j) [v_j, 1]^T, one key after another, ahead and back."""
    assert queries.time is not None
    assert keys.time is not None
    out = torch.zeros(B, H, LQ, D, dtype=torch.float64)
    for b in range(B):
        order = _in_order(keys, b)
        for h in range(H):
            for i in range(LQ):
                phi_q = nn.functional.elu(q[b, h, i]) + 1
                past = [j for j in order if keys.time[b, j] <= queries.time[b, i]]
                future = [] if attention.causal else [j for j in order[::-1] if keys.time[b, j] > queries.time[b, i]]
                read = torch.zeros(D + 1, dtype=torch.float64)
                for direction in (past, future):
                    state = torch.zeros(D, D + 1, dtype=torch.float64)
                    for place, j in enumerate(direction):
                        rate = math.log1p(math.exp(attention.decay_weight[h] @ v[b, h, j] + attention.decay_bias[h]))
                        ahead = direction is past
                        state = state * math.exp(-rate) if ahead or place == 0 else state
                        phi_k = nn.functional.elu(k[b, h, j]) + 1
                        state = state + phi_k[:, None] * torch.cat([v[b, h, j], torch.ones(1)])
                        if not ahead and place + 1 < len(direction):  # forgets on the way to the next key
                            after = direction[place + 1]
                            rate = math.log1p(
                                math.exp(attention.decay_weight[h] @ v[b, h, after] + attention.decay_bias[h])
                            )
                            state = state * math.exp(-rate)
                    read = read + phi_q @ state
                out[b, h, i] = read[:D] / read[D] if read[D] else 0.0
    return out


@pytest.mark.parametrize("chunk", [2, 64], ids=["chunks of chunks", "one chunk"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_the_gated_recurrence_run_in_chunks_is_the_recurrence(
    chunk: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gated, "CHUNK", chunk)
    attention = GatedLinearAttention(H, D, causal).double().requires_grad_(False)
    attention.decay_weight.normal_(generator=torch.Generator().manual_seed(1))
    inputs = _inputs()
    out = attention(*inputs).out
    torch.testing.assert_close(out, _recurrences(attention, *inputs), rtol=0, atol=1e-12)
    assert not out[:, :, 3].any() or not causal, "before the first key there is nothing to read"


def test_without_forgetting_the_gated_recurrence_is_linear_attention() -> None:
    from mmattn.attention.linear.linear import LinearAttention

    attention = GatedLinearAttention(H, D, causal=False).double().requires_grad_(False)
    attention.decay_bias.fill_(-800.0)
    inputs, stats = _inputs(), frozenset({"mass", "mean_time"})
    ours, theirs = attention(*inputs, stats), LinearAttention(H, D)(*inputs, stats)
    torch.testing.assert_close(ours.out, theirs.out, rtol=0, atol=1e-12)
    for name in stats:
        torch.testing.assert_close(ours.stats[name], theirs.stats[name], rtol=0, atol=1e-12)


def test_long_inputs_forget_without_losing_digits() -> None:
    """The forgetting adds up to thousands over a long input; differences of it must not be rounded away."""
    length = 20_000
    attention = GatedLinearAttention(1, 4, causal=False).requires_grad_(False)
    q, k, v = (torch.randn(1, 1, length, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    single = attention(q, k, v, Geometry(), Geometry()).out
    double = attention.double()(q.double(), k.double(), v.double(), Geometry(), Geometry()).out
    torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-5)
