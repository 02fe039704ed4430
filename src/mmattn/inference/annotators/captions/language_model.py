"""The interface of a language model that describes video and audio: in this process, or behind an address."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mmattn.inference.annotators.captions.spans import CaptionSpan
from mmattn.types import Modality


class LanguageModel(ABC):
    """`modalities`: those that it can take in. `version`: of the model."""

    modalities: tuple[Modality, ...]
    version: str

    @abstractmethod
    def describe(self, spans: Sequence[CaptionSpan], prompt: str) -> list[str]:
        """The answer to `prompt` about each span. All spans have the same modalities."""

    @abstractmethod
    def answer(self, prompt: str) -> str:
        """The answer to a text alone."""
