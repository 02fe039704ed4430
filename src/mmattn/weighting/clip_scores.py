"""The scores of every clip for every tag, saved with an evaluation so that runs can be compared clip by clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.types import MODALITIES, Modality
from mmattn.weighting.causal import SUBSETS, Subset


def scores_file(run: Path, split: str) -> Path:
    """The file in which the evaluation of a run on a split saves its ClipScores."""
    return run / f"evaluation-{split}-scores.safetensors"


@dataclass(frozen=True)
class ClipScores:
    """N clips, K tags; `scores` in [0, 1] from each subset of the modalities; `targets` above 0 if a clip has a tag.

    `videos`: the source file of each clip; None: not recorded. `permuted`: scores with that modality taken from another
    clip; {}: not measured. `attention`: for each head the mass on audio and its prior, NaN for a clip that lacks a
    modality; None: no head attends to both modalities.
    """

    ids: tuple[str, ...]
    tags: tuple[str, ...]
    families: dict[str, str]  # tag -> family, where known
    groups: dict[str, tuple[int, ...]]  # exclusive group -> its tags
    targets: Float[Tensor, "N K"]
    scores: Mapping[Subset, Float[Tensor, "N K"]]
    videos: tuple[str, ...] | None = None
    permuted: Mapping[Modality, Float[Tensor, "N K"]] = field(default_factory=dict)
    attention: Float[Tensor, "N H 2"] | None = None

    def of(self, ids: Sequence[str]) -> ClipScores:
        """The scores of the clips `ids`, in this order."""
        place = {name: i for i, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        chosen = torch.tensor(rows, dtype=torch.long)
        return replace(
            self,
            ids=tuple(ids),
            targets=self.targets[chosen],
            scores={name: values[chosen] for name, values in self.scores.items()},
            videos=None if self.videos is None else tuple(self.videos[i] for i in rows),
            permuted={name: values[chosen] for name, values in self.permuted.items()},
            attention=None if self.attention is None else self.attention[chosen],
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically."""
        from safetensors.torch import save

        facts = {"ids": self.ids, "tags": self.tags, "families": self.families, "groups": self.groups}
        facts |= {"videos": self.videos}
        tensors = {name: self.scores[name].float().clone() for name in SUBSETS}
        tensors |= {f"permuted_{name}": values.float().clone() for name, values in self.permuted.items()}
        tensors |= {} if self.attention is None else {"attention": self.attention.float().clone()}
        tensors["targets"] = self.targets.float().clone()
        write_atomically(path, save(tensors, {"mmattn": json.dumps(facts, ensure_ascii=True)}))


def load_clip_scores(path: Path) -> ClipScores:
    """Read what `save` wrote. No code is executed. Raises UsageError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            facts = json.loads((opened.metadata() or {})["mmattn"])
            known = set(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in (*SUBSETS, "targets")}
            permuted: dict[Modality, Tensor] = {}
            permuted |= {m: opened.get_tensor(f"permuted_{m}") for m in MODALITIES if f"permuted_{m}" in known}
            attention = opened.get_tensor("attention") if "attention" in known else None
        found = ClipScores(
            ids=tuple(map(str, facts["ids"])),
            tags=tuple(map(str, facts["tags"])),
            families={str(tag): str(family) for tag, family in facts["families"].items()},
            groups={str(name): tuple(int(i) for i in ids) for name, ids in facts["groups"].items()},
            targets=tensors["targets"],
            scores={name: tensors[name] for name in SUBSETS},
            videos=None if facts.get("videos") is None else tuple(map(str, facts["videos"])),
            permuted=permuted,
            attention=attention,
        )
        shape = (len(found.ids), len(found.tags))
        if any(tensor.shape != shape for tensor in (*tensors.values(), *permuted.values())):
            raise ValueError(f"expected {shape[0]} clips x {shape[1]} tags")
        if any(each is not None and len(each) != shape[0] for each in (found.videos, attention)):
            raise ValueError(f"expected videos and attention of {shape[0]} clips")
        if any(not 0 <= i < len(found.tags) for ids in found.groups.values() for i in ids):
            raise ValueError("a group refers to an unknown tag")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'}"
        raise UsageError(f"{path}: not the scores of an evaluation ({reason}); delete it and evaluate again") from None
    return found
