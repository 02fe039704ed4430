"""Who writes sentences about what is seen and heard: a model in this process, or one behind an address."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mmattn.inference.annotators.captions.spans import Seen
from mmattn.types import Modality


class Writer(ABC):
    """`streams`: what it can take in. `version`: of the model."""

    streams: tuple[Modality, ...]
    version: str

    @abstractmethod
    def describe(self, spans: Sequence[Seen], prompt: str) -> list[str]:
        """What it says of each span when it is asked `prompt`. All spans have the same streams, which it takes in."""

    @abstractmethod
    def answer(self, prompt: str) -> str:
        """What it says to a text alone."""
