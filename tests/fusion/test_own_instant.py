"""How well the heads that start time-local single out their own instant: docs/results.md names these numbers."""

from __future__ import annotations

import pytest
import torch

from mmattn.attention.interface import Geometry
from mmattn.attention.positions.rotary import rotary_periods, rotate
from mmattn.config.compose import build, read_choice
from mmattn.fusion.blocks.multi_head import MergedAttention

HEAD_DIM, TOKENS, SECONDS, NEAR_S = 24, 96, 3.0, 0.125


def share_near(attention: str, scale: float) -> float:
    """The share of the weight within 0.125 s of a query in the middle of a clip of 3 s.

    Tokens are 0, so queries and keys are their biases, here times `scale`.
    """
    block = MergedAttention(HEAD_DIM * 2, 2, build(read_choice("attention", attention)))
    bias = scale * block.q_proj.bias[:HEAD_DIM].detach()
    assert bias.any(), "the first head is one of them"
    times = (torch.arange(TOKENS) + 0.5)[None] * SECONDS / TOKENS
    turned = rotate(bias.expand(1, 1, TOKENS, HEAD_DIM), times, rotary_periods(HEAD_DIM))
    place = Geometry(None, times, (("audio", TOKENS),), frozenset())
    weights = build(read_choice("attention", attention))(1, HEAD_DIM)(
        turned, turned, torch.eye(TOKENS)[None, None], place, place, frozenset()
    ).out[0, 0]
    middle = TOKENS // 2
    return float(weights[middle, (times[0] - times[0, middle]).abs() <= NEAR_S].sum())


def test_softmax_singles_it_out_and_linear_attention_cannot() -> None:
    uniform = float(2 * round(NEAR_S * TOKENS / SECONDS) + 1) / TOKENS
    assert uniform == pytest.approx(0.094, abs=0.001)
    assert share_near("dense", 1.0) == pytest.approx(0.712, abs=0.01)
    assert share_near("linear", 1.0) == pytest.approx(0.111, abs=0.002)
    assert share_near("dense", 4.0) > 0.99
    assert max(share_near("linear", scale) for scale in (2.0, 16.0, 100.0)) < 0.13
