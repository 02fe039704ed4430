"""No mechanism makes a float64 number on a device that has none (Apple's), and the results are the same there."""

from __future__ import annotations

import pytest
import torch

from mmattn.attention.interface import Geometry
from mmattn.config.compose import build, group_choices, read_choice
from no_float64 import no_float64

B, H, L, D = 2, 2, 40, 16


@pytest.mark.parametrize("name", group_choices("attention"))
def test_a_mechanism_runs_and_trains_without_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = build(read_choice("attention", name))(H, D).eval()
    q, k, v = (torch.randn(B, H, L, D, requires_grad=True) for _ in range(3))
    keep = torch.rand(B, L) < 0.8
    side = Geometry(keep, torch.rand(B, L) * 3, (("video", 25), ("audio", 15)))
    stats = frozenset({"mass", "mean_time", "entropy"}) & attention.supports
    expected = attention(q, k, v, side, side, stats)
    with no_float64(monkeypatch):
        found = attention(q, k, v, side, side, stats)
        found.out.sum().backward()
    torch.testing.assert_close(found.out, expected.out)
    for stat in stats:
        torch.testing.assert_close(found.stats[stat], expected.stats[stat])
