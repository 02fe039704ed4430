"""Turns scores of time steps into an annotator's tags with segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmattn.inference.annotators.base.interface import STEP_S, Findings
from mmattn.inference.records.build import span_list
from mmattn.inference.records.segments import Segments
from mmattn.types import MODALITIES, Modality


class TagFinder:
    """Collects the tags of one annotator that reach `threshold` in some step of a file.

    `modality`: the only one the annotator uses, which has the whole score; None: the shares are not known.
    """

    def __init__(
        self,
        annotator: str,
        names: Sequence[str],
        modality: Modality | None,
        threshold: float,
        step_s: float = STEP_S,
    ) -> None:
        self.annotator, self.names, self.threshold = annotator, names, threshold
        self.modality: Modality | None = modality
        self.end = 0.0
        self._used = False
        self._segments = Segments(1.1 * step_s)

    def add(self, scores: Float[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """Add the next S steps; step i covers [bounds[i], bounds[i + 1]) s."""
        self._segments.add(scores, scores >= self.threshold, bounds)
        self.end, self._used = max(self.end, bounds[-1]), True

    def findings(self) -> Findings:
        """The tags, of an annotator that uses one modality."""
        assert self.modality is not None
        return Findings({"tags": self.tags()}, (self.modality,) if self._used else (), self.end)

    def tags(self) -> list[dict[str, Any]]:
        """The entries of a record's `tags`, highest score first."""
        found = []
        for label, segments in self._segments.best().items():
            score = round(max(segment.score for segment in segments), 4)
            shares = {name: score if name == self.modality else 0.0 for name in MODALITIES}
            found.append(
                {
                    "tag": self.names[label],
                    "score": score,
                    **({} if self.modality is None else {"modality": self.modality}),
                    "from": self.annotator,
                    **({} if self.modality is None else {**shares, "synergy": 0.0}),
                    "segments": span_list((segment.start, segment.end) for segment in segments),
                }
            )
        return found
