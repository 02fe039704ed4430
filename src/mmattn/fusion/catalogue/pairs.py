"""What `mmattn show fusion attention` prints: which fusion goes with which attention, and how far it then reaches."""

from __future__ import annotations

from mmattn.config.compose import build, group_choices, read_choice
from mmattn.config.overrides import takes_attention
from mmattn.errors import UsageError
from mmattn.fusion.catalogue.reach import between
from mmattn.types import Modality

DIM, HEADS, SECONDS = 16, 2, 20.0
COUNT: dict[Modality, int] = {"video": 20, "audio": 40}
LEGEND = f"""
How much of the other stream a token's result depends on, in percent. It is measured by gradients at the first and the
middle token of each stream, with default settings and random weights, in a clip of {SECONDS:.0f} s with
{COUNT["video"]} picture and {COUNT["audio"]} sound tokens.
100: every instant reaches every other. 0: the streams never read each other. -: refused, for the reason below.
"""


def table() -> str:
    """A line for each attention, a column for each fusion, and why pairs are refused."""
    fusions = group_choices("fusion")
    reasons: list[str] = []
    rows = [["attention=", *fusions]]
    for attention in group_choices("attention"):
        row = [attention]
        for fusion in fusions:
            try:
                row.append(f"{100 * _reach(fusion, attention):.0f}")
            except UsageError as error:
                row.append("-")
                reasons.append(str(error))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*lines, LEGEND.rstrip(), *dict.fromkeys(reasons)])


def _reach(fusion: str, attention: str) -> float:
    """Raises UsageError where the pair is refused."""
    spec = read_choice("fusion", fusion)
    takes_attention(fusion, spec)
    chosen = {"attention": read_choice("attention", attention), "position": read_choice("position", "rotary")}
    settings = {"dim": DIM, "heads": HEADS, "dropout": 0.0, **chosen}
    return between(build({key: settings.get(key, value) for key, value in spec.items()}), DIM, COUNT, SECONDS)
