"""The interface of a model that scores how well sentences fit a moment of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.types import Modality


@dataclass(frozen=True)
class Step:
    """One time step of a file. `frames` None: no video then. `waveform` None: no audio then."""

    frames: UInt8[Tensor, "T 3 H W"] | None
    waveform: Float[Tensor, " N"] | None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that the step has."""
        return (*(("video",) if self.frames is not None else ()), *(("audio",) if self.waveform is not None else ()))

    @property
    def samples(self) -> Any:
        """The waveform as numpy has it."""
        assert self.waveform is not None
        return self.waveform.cpu().numpy()


class ZeroShot(ABC):
    """`modalities`: those that the model can use. `sample_rate`: of its audio, Hz. `frames`: most frames of a step."""

    modalities: tuple[Modality, ...]
    sample_rate = 0
    frames = 1

    @abstractmethod
    def set_prompts(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        """Set the sentences of each tag, whose embeddings are averaged.

        `neutral`: sentences that name no tag, for models that have no score for "none of these".
        """

    @abstractmethod
    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        """Scores in [0, 1]. All steps have the same modalities, which the model can use."""
