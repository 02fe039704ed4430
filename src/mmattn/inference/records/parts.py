"""The parts of a result: tags, captions, speech, text and what they owe to each modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reading a library needs no torch
    from mmattn.types import Modality

Span = tuple[float, float]  # start and end, s


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
