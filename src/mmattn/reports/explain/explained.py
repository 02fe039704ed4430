"""The explanation of a file: its windows with their streams over time, and the means over the file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import Modality
from mmattn.weighting.causal import SUBSETS, Subset, shapley
from mmattn.weighting.heat.faithfulness import Faithfulness


@dataclass(frozen=True)
class Steps:
    """One stream over time: a step of video has places (rows x columns), a step of audio has bands.

    `times` (S,) are seconds of the file. `causal` and `looked` (K, S, places): heat of each tag; `looked` is None where
    the attention has no weights. `audio_mass` (S,): attention mass on audio of this stream's tokens, None likewise.
    """

    times: Tensor
    causal: Float[Tensor, "K S P"]
    looked: Float[Tensor, "K S P"] | None
    audio_mass: Float[Tensor, " S"] | None
    audio_prior: float | None


@dataclass(frozen=True)
class ExplainedWindow:
    """One window of the file: it explains [shown, end), and the model read it from `start`."""

    start: float
    shown: float
    end: float
    spectrogram: Float[Tensor, "F M"]  # until the audio ends
    scores: dict[Subset, Float[Tensor, " K"]]
    streams: dict[Modality, Steps]
    faithful: dict[str, Faithfulness]  # of the first tag, by the tokens that were moved: video, audio, both


@dataclass(frozen=True)
class Explained:
    """A whole file. `tags`: the K requested or best ones; the heat of the first one is shown."""

    path: Path
    tags: list[str]
    windows: list[ExplainedWindow]
    issues: list[str]

    def has(self, name: Modality) -> bool:
        """Whether any window has tokens of the modality."""
        return any(name in window.streams for window in self.windows)


def split_of(found: Explained, index: int) -> dict[str, float]:
    """A tag's score and Shapley split, the mean over windows."""
    values: dict[Subset, Tensor] = {s: torch.stack([w.scores[s][index] for w in found.windows]).mean() for s in SUBSETS}
    split = shapley(values)
    parts = {"score": values["both"], "video": split.video, "audio": split.audio, "synergy": split.synergy}
    return {name: round(float(value), 4) for name, value in parts.items()}


def mean_mass(found: Explained) -> dict[str, float] | None:
    """Attention mass on audio over all tokens of the windows with both streams, with its prior."""
    both = [w for w in found.windows if len(w.streams) == 2]
    steps = [s for w in both for s in w.streams.values() if s.audio_mass is not None]
    if not steps:
        return None
    mass = torch.cat([s.audio_mass for s in steps if s.audio_mass is not None]).mean()
    prior = sum(s.audio_prior or 0.0 for s in steps) / len(steps)
    return {"audio": round(float(mass), 4), "prior": round(prior, 4)}


def record(found: Explained) -> dict[str, Any]:
    """The content of explain.json."""
    tags = [{"tag": tag, **split_of(found, i)} for i, tag in enumerate(found.tags)]
    return {
        "path": str(found.path),
        "tags": tags,
        "attention": mean_mass(found),
        "windows": [_window(found, window) for window in found.windows],
        "issues": found.issues,
    }


def _window(found: Explained, window: ExplainedWindow) -> dict[str, Any]:
    streams = {
        name: {
            "times": _numbers(steps.times),
            "causal": _by_tag(found, steps.causal),
            "looked": None if steps.looked is None else _by_tag(found, steps.looked),
            "attention_on_sound": None if steps.audio_mass is None else _numbers(steps.audio_mass),
        }
        for name, steps in window.streams.items()
    }
    return {
        "span": [round(time, 3) for time in (window.start, window.shown, window.end)],
        "scores": {subset: _by_tag(found, values) for subset, values in window.scores.items()},
        "streams": streams,
        "faithfulness": {name: asdict(f) | {"gain": f.gain} for name, f in window.faithful.items()},
    }


def _by_tag(found: Explained, values: Float[Tensor, "K ..."]) -> dict[str, Any]:
    return {tag: _numbers(value) for tag, value in zip(found.tags, values, strict=True)}


def _numbers(values: Tensor) -> Any:
    """A tensor as nested lists of numbers in five digits."""
    return round(values.item(), 5) if values.dim() == 0 else [_numbers(value) for value in values]
