"""Narrow heads: the result does not depend on what lies in memory that nothing has written."""

from __future__ import annotations

import torch

from mmattn.config.compose import build, read_choice
from mmattn.types import Tokens

DIM, HEADS = 10, 5  # two channels a head


def _spoil_free_memory() -> None:
    spoilt = [torch.full((size,), torch.nan) for size in [*range(1, 65)] * 4]
    del spoilt


def test_two_channels_a_head_stay_finite_whatever_free_memory_holds() -> None:
    torch.manual_seed(0)
    chosen = {"attention": read_choice("attention", "dense"), "position": read_choice("position", "rotary")}
    given = {"dim": DIM, "heads": HEADS, "dropout": 0.0, **chosen}
    fusion = build({key: given.get(key, value) for key, value in read_choice("fusion", "hierarchical").items()})
    streams = [Tokens(torch.randn(1, 1, DIM), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1)) for _ in range(2)]
    for _ in range(20):
        fusion.zero_grad()
        _spoil_free_memory()
        fused = fusion(*streams, frozenset({"mass"}))
        _spoil_free_memory()
        shares = sum(share.square().sum() for layer in fused.stats for share in layer.mass.values())
        (fused.video.values.square().sum() + shares).backward()
        assert fused.video.values.isfinite().all() and fused.audio.values.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())
