"""Small films, tiny captioners and their records, for tests of captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.captions.annotator import Captions
from mmattn.inference.records.result import Result, schema
from mmattn.media.isolate.reader import IsolatedReader

SMALL = {"max_tokens": 8, "prompt": "Say.", "embeddings": "none"}
RATE = 16000


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Each of another colour, with a square."""
    frames = np.random.default_rng(seed).integers(0, 255, (count, 1, 1, 3), dtype=np.uint8).repeat(96, 1).repeat(160, 2)
    frames[:, 20:60, 30:90] = 255 - frames[:, 20:60, 30:90]
    return frames


def chirp(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * (300 + 50 * t) * t)).astype(np.float32)


def record_of(annotators: list, reader: IsolatedReader, path: Path) -> dict:
    (record,) = Annotators(annotators).records([path], reader)
    record = json.loads(json.dumps(record, allow_nan=False))
    pytest.importorskip("jsonschema").validate(record, schema())
    assert Result.from_dict(record).to_dict() == record
    return record


def captions_by(folder: Path, **settings) -> Captions:
    return Captions(Setting(), pretrained=str(folder), **(SMALL | settings))


class WordCounts:
    """Embeddings that are the counts of some words."""

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(text.count(word)) for word in ("dog", "sea", "car")] for text in sentences])
