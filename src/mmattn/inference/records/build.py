"""Builds records: the plain data that `mmattn predict` writes for each file. record.schema.json describes them.

The keys of a record are put in here and nowhere else. Needs no torch, so that the driver of a job can record failures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from mmattn.types import Modality

Record = dict[str, Any]
Span = tuple[float, float]  # start and end, s


def ok_record(
    path: str,
    *,
    tags: list[Record],
    parts: Record,
    used: Iterable[Modality],
    spans: Iterable[Span],
    issues: list[str],
    shapley: Record | None = None,
    attention: dict[str, float] | None = None,
    annotators: Record | None = None,
) -> Record:
    """The record of a file that was read.

    `parts`: lists such as `captions`, absent where nothing looked for them. `used`: the modalities that the file has.
    `annotators`: the keys `used` and `versions` of ready-made models.
    """
    return {
        "path": path,
        "status": "ok",
        "tags": tags,
        **parts,
        "modality": {"used": list(used), "shapley": shapley, "attention": attention},
        **(annotators or {}),
        "spans": span_list(spans, digits=3),
        "issues": issues,
    }


def failed_record(path: str, reason: str, detail: str) -> Record:
    """The record of a file that was not read. `reason`: a MediaReason, or one of the job's own."""
    return {"path": path, "status": "failed", "reason": reason, "detail": detail}


def span_list(spans: Iterable[Span], digits: int = 2) -> list[list[float]]:
    """[[start, end], ...] in seconds, as records hold spans."""
    return [[round(start, digits), round(end, digits)] for start, end in spans]


def rounded(value: Tensor | float) -> float:
    """A score or share with four digits."""
    return round(float(value), 4)
