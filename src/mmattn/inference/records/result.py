"""What is known of one file, as typed objects. A record, a line of the JSONL output, is the same as plain data.

record.schema.json describes each key. A test compares these classes and docs/schema.md with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # reading a library needs no torch
    from mmattn.types import Modality

Span = tuple[float, float]  # start and end, s
SCHEMA = "record.schema.json"


def schema() -> dict[str, Any]:
    """The JSON Schema of a record."""
    return json.loads(resources.files("mmattn.inference.records").joinpath(SCHEMA).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Tag:
    """A tag of a file. `score` is in [0, 1].

    `video`, `audio`: its Shapley split; `synergy`: what only both together add. `modality`: the only modality that
    the annotator uses (model=pretrained), which then has the whole score. `source`: the annotator, "from" in a record.
    `segments`: when the tag is present, if that is known.
    """

    tag: str
    score: float
    video: float | None = None
    audio: float | None = None
    synergy: float | None = None
    modality: Modality | None = None
    segments: tuple[Span, ...] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Word:
    """A word of a caption.

    `video`, `audio`, `synergy`: the split of its log probability, nats. `attention`: mass on audio, in [0, 1].
    """

    word: str
    video: float
    audio: float
    synergy: float
    attention: float | None = None


@dataclass(frozen=True)
class Caption:
    """A caption of [`start`, `end`) s. `score`: its log probability in the decoding.

    `words`: with their splits; None if these were not measured. `source`: the annotator, "from" in a record. `level`:
    what the caption describes: shot, window, chapter or summary (the whole file); None: a span of a trained model.
    """

    start: float
    end: float
    text: str
    score: float | None = None
    words: tuple[Word, ...] | None = None
    source: str | None = None
    level: str | None = None


@dataclass(frozen=True)
class SpokenWord:
    """A word of an utterance, spoken in [`start`, `end`) s. `probability`: that of the recogniser, in [0, 1]."""

    start: float
    end: float
    word: str
    probability: float | None = None


@dataclass(frozen=True)
class Utterance:
    """Speech in [`start`, `end`) s. `words` None: only the utterance has times. `language`: an ISO 639 code."""

    start: float
    end: float
    text: str
    words: tuple[SpokenWord, ...] | None = None
    language: str | None = None


@dataclass(frozen=True)
class ReadText:
    """Text that can be read in the video in [`start`, `end`) s."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Shares:
    """The mean Shapley split of the tags."""

    video: float
    audio: float


@dataclass(frozen=True)
class AttentionUse:
    """The mean attention mass on audio, and the mass that uniform attention would give it."""

    audio: float
    prior: float


@dataclass(frozen=True)
class ModalityUse:
    """`used`: the modalities of the file. `shapley` None: no tag. `attention` None: no layer reads both modalities."""

    used: tuple[Modality, ...]
    shapley: Shares | None
    attention: AttentionUse | None


@dataclass(frozen=True)
class Result:
    """All that is known of one file.

    `status` "failed": `reason` (a MediaReason) and `detail` say why, and all else is empty. `spans`: what was read, s.
    `issues`: anomalies of the file. `captions`, `transcript`, `shots` and `texts` are empty both if nothing was found
    and if nothing looked for them; `looked_for` holds the names of those looked for. `versions` and `used`: the model
    of each annotator, and the modalities that it used.
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
    transcript: tuple[Utterance, ...] = ()
    shots: tuple[Span, ...] = ()
    texts: tuple[ReadText, ...] = ()
    versions: tuple[tuple[str, str], ...] | None = None
    used: tuple[tuple[str, tuple[Modality, ...]], ...] | None = None
    looked_for: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether the file was read."""
        return self.status == "ok"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Result:
        """Build a result from a record. Raises TypeError, KeyError or ValueError for anything else."""
        parts = {name: _typed(name, value) for name, value in record.items()}
        return cls(**parts, looked_for=frozenset(record).intersection(_LISTS))

    def to_dict(self) -> dict[str, Any]:
        """The record, as in a line of the JSONL output."""
        named = {} if self.id is None else {"id": self.id}
        if not self.ok:
            return {**named, "path": self.path, "status": self.status, "reason": self.reason, "detail": self.detail}
        absent = {"id", "reason", "detail", "looked_for"}
        absent |= {name for name in _LISTS if not getattr(self, name) and name not in self.looked_for}
        plain = _plain(self)
        for name in ("versions", "used"):
            if plain.get(name) is not None:
                plain[name] = dict(plain[name])
        return {**named, **{name: value for name, value in plain.items() if name not in absent}}

    def _repr_html_(self) -> str:
        from mmattn.inference.records.html import render

        return render(self)


_LISTS = ("captions", "transcript", "shots", "texts")  # absent from a record where nothing looked for them
_PARTS: dict[str, dict[str, type]] = {  # the type of the elements of these lists
    "Result": {"tags": Tag, "captions": Caption, "transcript": Utterance, "texts": ReadText},
    "Caption": {"words": Word},
    "Utterance": {"words": SpokenWord},
}
_OPTIONAL = {  # left out of a record where they are None
    Tag: ("video", "audio", "synergy", "modality", "segments", "source"),
    Word: ("attention",),
    Caption: ("score", "words", "source", "level"),
    SpokenWord: ("probability",),
    Utterance: ("words", "language"),
    Result: ("versions", "used"),
}
_ORDER = {  # keys that come first in a record
    Tag: ("tag", "score", "modality"),
    Result: ("path", "status", "tags", "captions", "transcript", "shots", "texts", "modality"),
}
_RENAMED = {"from": "source"}  # `from` is a keyword of Python
_RENAMED_BACK = {name: key for key, name in _RENAMED.items()}


def _typed(name: str, value: Any, owner: str = "Result") -> Any:
    """The value of a record's key as the field holds it."""
    if kind := _PARTS.get(owner, {}).get(name):
        return tuple(_part(kind, each) for each in value)
    if name in ("spans", "segments", "shots"):
        return _spans(value)
    if name == "issues":
        return tuple(value)
    if name in ("versions", "used") and owner == "Result":
        return tuple((key, each if isinstance(each, str) else tuple(each)) for key, each in value.items())
    if name == "modality" and owner == "Result" and value is not None:
        shapley, attention = value["shapley"], value["attention"]
        return ModalityUse(
            tuple(value["used"]),
            None if shapley is None else Shares(**shapley),
            None if attention is None else AttentionUse(**attention),
        )
    return value


def _part(kind: type, record: Mapping[str, Any]) -> Any:
    return kind(**{_RENAMED.get(key, key): _typed(key, value, kind.__name__) for key, value in record.items()})


def _spans(pairs: Sequence[Sequence[float]]) -> tuple[Span, ...]:
    return tuple((start, end) for start, end in pairs)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if not hasattr(type(value), "__dataclass_fields__"):
        return value
    kind, names = type(value), [each.name for each in fields(value)]
    first = _ORDER.get(kind, ())
    plain = {name: _plain(getattr(value, name)) for name in [*first, *(name for name in names if name not in first)]}
    optional = _OPTIONAL.get(kind, ())
    kept = {name: each for name, each in plain.items() if each is not None or name not in optional}
    return {_RENAMED_BACK.get(name, name): each for name, each in kept.items()}
