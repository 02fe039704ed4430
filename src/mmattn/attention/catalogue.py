"""The table of `mmattn show attention`: every mechanism of conf/attention with its declared properties."""

from __future__ import annotations

from mmattn.config.compose import build, group_choices, read_choice
from mmattn.errors import UsageError

HEADER = ("attention=", "time", "memory", "exact", "statistics", "reference")
LEGEND = """
Time and memory of one head, forward and backward: Lq queries, Lk keys, D channels, H heads; W keys that a query's block
holds, b tokens of a block, K blocks chosen, N summaries of the keys, R landmarks, M latents, F features. exact:
computes its own definition, where the others estimate that of dense. Statistics: mass on each modality, entropy of the
weights, mean attended time, the weights.
"""


def table() -> str:
    """One line a mechanism."""
    rows = [HEADER, *(_row(name) for name in group_choices("attention"))]
    widths = [max(len(row[i]) for row in rows if len(row) > 2) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "\n".join(lines) + "\n" + LEGEND.rstrip()


def _row(name: str) -> tuple[str, ...]:
    try:
        mechanism = build(read_choice("attention", name))(2, 8)
    except (UsageError, ValueError) as error:  # a file of the user's own
        return (name, f"does not build: {error}")
    return (
        name,
        mechanism.time_cost,
        mechanism.memory_cost,
        "yes" if mechanism.exact else "no",
        " ".join(stat for stat in ("mass", "entropy", "mean_time", "weights") if stat in mechanism.supports) or "none",
        mechanism.reference,
    )
