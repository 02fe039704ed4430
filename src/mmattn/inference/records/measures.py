"""The parts of a trained model's record: tags with their Shapley split, and the attention mass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.inference.records.build import Record, rounded, span_list
from mmattn.inference.records.segments import Segment
from mmattn.metrics.summary import HALF
from mmattn.types import MODALITIES
from mmattn.weighting.causal import Subset, shapley
from mmattn.weighting.descriptive import MassMeter


def thresholds_of(vocabulary: TagVocabulary, calibrated: Mapping[str, float], threshold: float | None) -> Tensor:
    """(K,) the score from which each tag is listed: `threshold`, else its calibrated one, else 0.5."""
    values = [calibrated.get(name, HALF) if threshold is None else threshold for name in vocabulary.names]
    return torch.tensor(values, dtype=torch.float64)


def tag_records(
    names: Sequence[str],
    scores: Mapping[Subset, Tensor],
    chosen: Iterable[int],
    segments: Mapping[int, Sequence[Segment]] | None = None,
) -> tuple[list[Record], Record | None]:
    """The records of the `chosen` of K tags, highest score first, and the mean of their splits.

    `scores`: (K,) for each subset of the modalities.
    """
    split = shapley(scores)
    parts = {"video": split.video, "audio": split.audio, "synergy": split.synergy}
    both = scores["both"]
    ordered = sorted(chosen, key=lambda i: -float(both[i]))
    records = [
        {"tag": names[i], "score": rounded(both[i])}
        | {name: rounded(part[i]) for name, part in parts.items()}
        | ({} if segments is None else {"segments": span_list((s.start, s.end) for s in segments[i])})
        for i in ordered
    ]
    return records, {name: rounded(parts[name][ordered].mean()) for name in MODALITIES} if ordered else None


def attention_mass(meters: Iterable[MassMeter]) -> dict[str, float] | None:
    """The mean attention mass (or gate) on audio over meters, layers, streams and heads, with its prior.

    None if no layer reads both modalities.
    """
    heads = [head for meter in meters for head in meter.result() if set(MODALITIES) <= set(head["mass"])]
    if not heads:
        return None
    return {
        "audio": rounded(sum(head["mass"]["audio"] for head in heads) / len(heads)),
        "prior": rounded(sum(head["prior"]["audio"] for head in heads) / len(heads)),
    }
