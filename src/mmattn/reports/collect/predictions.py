"""predictions.jsonl read into records, and the choice of those to show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.reports.collect.records import Number, number

MOST_CAPTIONS = 4  # that are shown of a file


@dataclass(frozen=True)
class TagLine:
    """One tag of one file. `mark` is "right", "wrong" or "missed" where the truth is known, else None."""

    tag: str
    score: Number
    video: Number
    audio: Number
    synergy: Number
    mark: str | None


@dataclass(frozen=True)
class Prediction:
    """One file that was read."""

    path: str
    tags: tuple[TagLine, ...]
    used: tuple[str, ...]
    attention: tuple[float, float] | None  # mean mass on audio, and its prior
    span: tuple[float, float] | None  # the first one, s
    issues: tuple[str, ...]
    truth_known: bool
    captions: tuple[str, ...]  # in order of time, the first few


@dataclass(frozen=True)
class Failure:
    """One file that could not be read."""

    path: str
    reason: str
    detail: str


def read_predictions(path: Path) -> tuple[list[Prediction], list[Failure]]:
    """The files that were read and those that failed. Raises UsageError naming the line that is not a prediction."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UsageError(
            f"predictions={path}: no such file; write one with: mmattn predict run=... source=... out={path}"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"predictions={path}: cannot be read ({_why(error)}); give a predictions.jsonl") from None
    good: list[Prediction] = []
    bad: list[Failure] = []
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if record["status"] == "ok":
                good.append(_prediction(record))
            else:
                bad.append(Failure(str(record["path"]), str(record.get("reason")), str(record.get("detail") or "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"predictions={path}: line {i} is not a prediction ({type(error).__name__}: {error}); "
                "write the file again with mmattn predict"
            ) from None
    return good, bad


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` items at even distances: a fixed rule, so none is cherry-picked."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _prediction(record: dict[str, Any]) -> Prediction:
    truth = record.get("truth")
    truth = None if truth is None else {str(tag) for tag in truth}
    tags = [_tag(node, truth) for node in record["tags"]]
    missed = sorted((truth or set()) - {tag.tag for tag in tags})
    tags += [TagLine(tag, None, None, None, None, "missed") for tag in missed]
    modality = record.get("modality") or {}
    attention = modality.get("attention") or {}
    mass, prior = number(attention.get("audio")), number(attention.get("prior"))
    spans = record.get("spans") or []
    start, end = (number(spans[0][0]), number(spans[0][1])) if spans else (None, None)
    captions = [str(each["text"]) for each in (record.get("captions") or ())[: MOST_CAPTIONS + 1]]
    if len(captions) > MOST_CAPTIONS:
        captions[-1] = "\u2026"
    return Prediction(
        path=str(record["path"]),
        tags=tuple(tags),
        used=tuple(map(str, modality.get("used") or ())),
        attention=(mass, prior) if mass is not None and prior is not None else None,
        span=(start, end) if start is not None and end is not None else None,
        issues=tuple(map(str, record.get("issues") or ())),
        truth_known=truth is not None,
        captions=tuple(captions),
    )


def _tag(node: dict[str, Any], truth: set[str] | None) -> TagLine:
    name = str(node["tag"])
    mark = None if truth is None else "right" if name in truth else "wrong"
    score, video, audio, synergy = (number(node.get(key)) for key in ("score", "video", "audio", "synergy"))
    return TagLine(name, score, video, audio, synergy, mark)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "not UTF-8 text")
