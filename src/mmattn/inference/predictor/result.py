"""What the model says of one file, typed; the record of the JSONL output is the same as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from mmattn.types import Modality

Span = tuple[float, float]  # start and end, s


@dataclass(frozen=True)
class Tag:
    """`score` in [0, 1]. `video`, `audio`: its Shapley split; `synergy`: what the two give only together.

    `modality`: the only one it was looked for in (model=pretrained). `segments`: when it lasts, where that is known.
    """

    tag: str
    score: float
    video: float
    audio: float
    synergy: float
    modality: Modality | None = None
    segments: tuple[Span, ...] | None = None


@dataclass(frozen=True)
class Word:
    """`video`, `audio`, `synergy`: the split of its log probability, nats. `attention`: mass on sound, in [0, 1]."""

    word: str
    video: float
    audio: float
    synergy: float
    attention: float | None = None


@dataclass(frozen=True)
class Caption:
    """What is said of [`start`, `end`) s. `score`: its log probability, as the search for it counted."""

    start: float
    end: float
    text: str
    score: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Shares:
    """The mean Shapley split of the tags."""

    video: float
    audio: float


@dataclass(frozen=True)
class Attention:
    """The mean attention mass on sound, and what even attention would give it."""

    audio: float
    prior: float


@dataclass(frozen=True)
class ModalityUse:
    """`used`: what the file has. None: no tag to split, or nothing reads both."""

    used: tuple[Modality, ...]
    shapley: Shares | None
    attention: Attention | None


@dataclass(frozen=True)
class Result:
    """`status` "failed": `reason` (a MediaReason) and `detail` say why, and all else is empty.

    `spans`: what was read, s. `issues`: what was odd. `captions` is empty where the model does not caption.
    """

    path: str
    status: Literal["ok", "failed"]
    tags: tuple[Tag, ...] = ()
    captions: tuple[Caption, ...] = ()
    modality: ModalityUse | None = None
    spans: tuple[Span, ...] = ()
    issues: tuple[str, ...] = ()
    reason: str | None = None
    detail: str | None = None
    id: str | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Result:
        """From a record. Raises TypeError or KeyError for what is none."""
        parts = dict(record)
        parts["tags"] = tuple(_tag(tag) for tag in record.get("tags", ()))
        parts["captions"] = tuple(_caption(caption) for caption in record.get("captions", ()))
        if (use := record.get("modality")) is not None:
            parts["modality"] = ModalityUse(
                tuple(use["used"]),
                None if use["shapley"] is None else Shares(**use["shapley"]),
                None if use["attention"] is None else Attention(**use["attention"]),
            )
        parts["spans"] = _spans(record.get("spans", ()))
        parts["issues"] = tuple(record.get("issues", ()))
        return cls(**parts)

    def to_dict(self) -> dict[str, Any]:
        """The record, as a line of the JSONL output has it."""
        named = {} if self.id is None else {"id": self.id}
        if not self.ok:
            return {**named, "path": self.path, "status": self.status, "reason": self.reason, "detail": self.detail}
        told = _plain(self)
        for name in ("reason", "detail", "id", *(() if self.captions else ("captions",))):
            told.pop(name, None)
        return {**named, **told}

    def _repr_html_(self) -> str:
        from mmattn.inference.predictor.result_html import render

        return render(self)


def _tag(told: Mapping[str, Any]) -> Tag:
    return Tag(**{**told, "segments": _spans(told["segments"])}) if "segments" in told else Tag(**told)


def _caption(told: Mapping[str, Any]) -> Caption:
    return Caption(**{**told, "words": tuple(Word(**word) for word in told["words"])})


def _spans(pairs: Sequence[Sequence[float]]) -> tuple[Span, ...]:
    return tuple((start, end) for start, end in pairs)


_OPTIONAL = {Tag: ("modality", "segments"), Word: ("attention",)}  # left out of a record where they are None
_ORDER = {Tag: ("tag", "score", "modality")}  # what comes first in a record


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if not hasattr(type(value), "__dataclass_fields__"):
        return value
    kind, names = type(value), [each.name for each in fields(value)]
    first = _ORDER.get(kind, ())
    ordered = [*first, *(name for name in names if name not in first)]
    told = {name: _plain(getattr(value, name)) for name in ordered}
    return {name: each for name, each in told.items() if each is not None or name not in _OPTIONAL.get(kind, ())}
