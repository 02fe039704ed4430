"""What a record says of a file's tags and captions, in plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.inference.records.segments import Segment
from mmattn.metrics.summary import HALF
from mmattn.types import MODALITIES
from mmattn.weighting.captions import WeighedCaption
from mmattn.weighting.causal import Subset, shapley
from mmattn.weighting.descriptive import MassMeter

Record = dict[str, Any]
Span = tuple[float, float]
_TOUCH_S = 1e-3  # spans this close leave nothing out


def thresholds_of(vocabulary: TagVocabulary, calibrated: Mapping[str, float], asked: float | None) -> Tensor:
    """(K,) from which score on a free tag is listed: `asked`, else its calibrated one, else 0.5."""
    values = [calibrated.get(name, HALF) if asked is None else asked for name in vocabulary.names]
    return torch.tensor(values, dtype=torch.float64)


def tag_records(
    names: Sequence[str],
    scores: Mapping[Subset, Tensor],
    chosen: Iterable[int],
    segments: Mapping[int, Sequence[Segment]] | None = None,
) -> tuple[list[Record], Record | None]:
    """The chosen of K tags by their scores (K,) on each subset, highest first, and the mean split over them."""
    split = shapley(scores)
    parts = {"video": split.video, "audio": split.audio, "synergy": split.synergy}
    both = scores["both"]
    ordered = sorted(chosen, key=lambda i: -float(both[i]))
    records = [
        {"tag": names[i], "score": rounded(both[i])}
        | {name: rounded(part[i]) for name, part in parts.items()}
        | ({} if segments is None else {"segments": [[round(s.start, 2), round(s.end, 2)] for s in segments[i]]})
        for i in ordered
    ]
    return records, {name: rounded(parts[name][ordered].mean()) for name in MODALITIES} if ordered else None


class Captions:
    """The captions of a file in time. Each says what was seen and heard then; none overlap.

    Spans that touch and say the same are one, with the words of the likelier. Of spans that overlap and say different
    things, each is said of its half of what they share.
    """

    def __init__(self) -> None:
        self._found: list[tuple[float, float, WeighedCaption]] = []

    def add(self, start: float, end: float, caption: WeighedCaption | None) -> None:
        """Of a span that does not begin before the one added last."""
        if caption is None:
            return
        if self._found and start <= self._found[-1][1] + _TOUCH_S:
            first, last, before = self._found[-1]
            if before.text == caption.text:
                self._found[-1] = first, max(last, end), max(before, caption, key=lambda one: one.score)
                return
            middle = (max(first, start) + min(last, end)) / 2
            self._found[-1] = first, middle, before
            start = middle
        self._found.append((start, end, caption))

    def records(self) -> list[Record]:
        return [
            {
                "start": round(start, 3),
                "end": round(end, 3),
                "text": caption.text,
                "score": rounded(caption.score),
                "words": [word.to_dict() for word in caption.words],
            }
            for start, end, caption in self._found
        ]


def attention_mass(meters: Iterable[MassMeter]) -> dict[str, float] | None:
    """Mean attention mass (or gate) on sound over meters, layers, streams and heads, with its prior.

    None if nothing reads both.
    """
    heads = [head for meter in meters for head in meter.result() if set(MODALITIES) <= set(head["mass"])]
    if not heads:
        return None
    return {
        "audio": rounded(sum(head["mass"]["audio"] for head in heads) / len(heads)),
        "prior": rounded(sum(head["prior"]["audio"] for head in heads) / len(heads)),
    }


def rounded(value: Tensor | float) -> float:
    return round(float(value), 4)
