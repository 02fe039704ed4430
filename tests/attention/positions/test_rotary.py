"""Rotary embedding on seconds: only time differences matter, whatever the rate of a stream."""

from __future__ import annotations

import math

import pytest
import torch

from mmattn.attention.positions.rotary import rotary_periods, rotate

D = 8


def test_scores_depend_on_time_differences_alone() -> None:
    q, k = torch.randn(1, 2, 5, D), torch.randn(1, 2, 9, D)
    periods = rotary_periods(D)
    q_time, k_time = torch.arange(5)[None] / 8, torch.arange(9)[None] / 25

    def scores(shift: float) -> torch.Tensor:
        return rotate(q, q_time + shift, periods) @ rotate(k, k_time + shift, periods).mT

    torch.testing.assert_close(scores(1.7), scores(0.0), rtol=0, atol=1e-4)
    moved = rotate(q, q_time + 1.7, periods) @ rotate(k, k_time, periods).mT
    assert (moved - scores(0.0)).abs().max() > 0.1


def test_lengths_are_kept_and_time_zero_changes_nothing() -> None:
    x = torch.randn(2, 2, 4, D)
    turned = rotate(x, torch.rand(2, 4) * 10, rotary_periods(D))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, torch.zeros(2, 4), rotary_periods(D)), x)


def test_a_pair_turns_once_in_its_period() -> None:
    """The definition, in complex numbers."""
    x, time, periods = torch.randn(1, 1, 3, D), torch.tensor([[0.05, 0.3, 1.1]]), rotary_periods(D)
    number = torch.complex(x[..., : D // 2], x[..., D // 2 :])
    turned = number * torch.exp(2j * math.pi * time[:, None, :, None] / periods)
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rotate(x, time, periods), expected, rtol=1e-5, atol=1e-5)


def test_periods_run_from_the_shortest_to_the_longest() -> None:
    periods = rotary_periods(64, shortest_s=0.5, longest_s=8.0)
    assert periods.shape == (32,)
    assert periods[0] == pytest.approx(0.5)
    assert periods[-1] == pytest.approx(8.0)
    with pytest.raises(ValueError, match="odd"):
        rotary_periods(7)


def test_half_precision_stays_half_precision() -> None:
    x = torch.randn(1, 1, 2, D, dtype=torch.bfloat16)
    assert rotate(x, torch.ones(1, 2), rotary_periods(D)).dtype == torch.bfloat16
