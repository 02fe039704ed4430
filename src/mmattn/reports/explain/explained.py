"""What is known of an explained file: windows, their streams over time, and what follows for the whole file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import Modality
from mmattn.weighting.causal import SUBSETS, Subset, shapley
from mmattn.weighting.faithful import Faithfulness


@dataclass(frozen=True)
class Steps:
    """One stream over time, step by step: a step of video has places (rows x columns), one of sound has bands.

    `times` (S,) are seconds of the file. `causal` and `looked` (K, S, places): heat of each tag; `looked` None where
    the attention does not tell. `sound_mass` (S,): attention mass on sound of this stream's tokens, None likewise.
    """

    times: Tensor
    causal: Float[Tensor, "K S P"]
    looked: Float[Tensor, "K S P"] | None
    sound_mass: Float[Tensor, " S"] | None
    sound_prior: float | None


@dataclass(frozen=True)
class ExplainedWindow:
    """One window of the file. What happens in [shown, end) is said by this one; it saw all from `start` on."""

    start: float
    shown: float
    end: float
    spectrogram: Float[Tensor, "F M"]  # up to where the sound ends
    scores: dict[Subset, Float[Tensor, " K"]]
    streams: dict[Modality, Steps]
    faithful: dict[str, Faithfulness]  # of the first tag, by what was moved: video, audio, both


@dataclass(frozen=True)
class Explained:
    """All of a file. `tags`: the K that were asked for or are best, the one whose heat is shown first."""

    path: Path
    tags: list[str]
    windows: list[ExplainedWindow]
    issues: list[str]

    def has(self, name: Modality) -> bool:
        return any(name in window.streams for window in self.windows)


def split_of(found: Explained, index: int) -> dict[str, float]:
    """A tag's score and Shapley split, the mean over windows."""
    values: dict[Subset, Tensor] = {s: torch.stack([w.scores[s][index] for w in found.windows]).mean() for s in SUBSETS}
    split = shapley(values)
    parts = {"score": values["both"], "video": split.video, "audio": split.audio, "synergy": split.synergy}
    return {name: round(float(value), 4) for name, value in parts.items()}


def mean_mass(found: Explained) -> dict[str, float] | None:
    """Attention mass on sound over all tokens of the windows that have both streams, with its prior."""
    both = [w for w in found.windows if len(w.streams) == 2]
    steps = [s for w in both for s in w.streams.values() if s.sound_mass is not None]
    if not steps:
        return None
    mass = torch.cat([s.sound_mass for s in steps if s.sound_mass is not None]).mean()
    prior = sum(s.sound_prior or 0.0 for s in steps) / len(steps)
    return {"audio": round(float(mass), 4), "prior": round(prior, 4)}


def record(found: Explained) -> dict[str, Any]:
    """As it is written to explain.json."""

    def numbers(tensor: Tensor | None) -> Any:
        return (
            None
            if tensor is None
            else [[round(x, 5) for x in row] if isinstance(row, list) else round(row, 5) for row in tensor.tolist()]
        )

    windows = []
    for window in found.windows:
        streams = {}
        for name, steps in window.streams.items():
            streams[name] = {
                "times": numbers(steps.times),
                "causal": {tag: numbers(steps.causal[i]) for i, tag in enumerate(found.tags)},
                "looked": None
                if steps.looked is None
                else {tag: numbers(steps.looked[i]) for i, tag in enumerate(found.tags)},
                "attention_on_sound": numbers(steps.sound_mass),
            }
        scores = {subset: dict(zip(found.tags, numbers(v), strict=True)) for subset, v in window.scores.items()}
        faithful = {name: asdict(f) | {"gain": f.gain} for name, f in window.faithful.items()}
        span = [round(t, 3) for t in (window.start, window.shown, window.end)]
        windows.append({"span": span, "scores": scores, "streams": streams, "faithfulness": faithful})
    tags = [{"tag": tag, **split_of(found, i)} for i, tag in enumerate(found.tags)]
    whole = {"path": str(found.path), "tags": tags, "attention": mean_mass(found), "windows": windows}
    return whole | {"issues": found.issues}
