"""What `mmattn show fusion` prints: every strategy of conf/fusion, built and counted."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmattn.config.compose import build, group_choices, read_choice
from mmattn.errors import UsageError
from mmattn.fusion.interface import Fusion
from mmattn.types import Tokens

HEADER = ("fusion=", "parameters", "MFLOP", "weighs by", "reference")
DIM, HEADS, VIDEO, AUDIO, SECONDS = 96, 4, 196, 512, 10.0
LEGEND = f"""
Counted for one clip of {SECONDS:.0f} s with {VIDEO} picture and {AUDIO} sound tokens of {DIM} channels under dense
attention, at each strategy's default layers; a multiply-add is two operations. weighs by: what its modality weighting
is a share of (none: it has no such share).
"""


def table() -> str:
    """One line a strategy."""
    rows = [HEADER, *(_row(name) for name in group_choices("fusion"))]
    widths = [max(len(row[i]) for row in rows if len(row) > 2) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "\n".join(lines) + "\n" + LEGEND.rstrip()


def _row(name: str) -> tuple[str, ...]:
    spec = read_choice("fusion", name)
    chosen = {"attention": read_choice("attention", "dense"), "position": read_choice("position", "rotary")}
    settings = {"dim": DIM, "heads": HEADS, "dropout": 0.0, **chosen}
    try:
        fusion = build({key: settings.get(key, value) for key, value in spec.items()})
    except UsageError as error:  # a file of the user's own
        return (name, f"does not build: {error}")
    size = sum(parameter.numel() for parameter in fusion.parameters())
    flops = count_flops(fusion, DIM, VIDEO, AUDIO, SECONDS)
    return (name, f"{size:,}", f"{flops / 1e6:,.0f}", fusion.weighs or "none", fusion.reference)


def count_flops(fusion: Fusion, dim: int, video: int, audio: int, seconds: float) -> int:
    """Operations of a forward for one clip with so many tokens of each stream, evenly spread over `seconds`."""

    def stream(count: int) -> Tokens:
        times = (torch.arange(count) + 0.5) * (seconds / count)
        return Tokens(torch.zeros(1, count, dim), torch.ones(1, count, dtype=torch.bool), times[None])

    fusion = fusion.eval().requires_grad_(False)  # the counter follows gradients where there are any
    # It does not know the fused attention kernel of the CPU, so attention is spelled out.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        fusion(stream(video), stream(audio))
    return counter.get_total_flops()
