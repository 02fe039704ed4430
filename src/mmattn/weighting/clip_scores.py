"""What every clip scored for every tag, kept beside an evaluation so that runs can be compared clip by clip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.weighting.causal import SUBSETS, Subset


@dataclass(frozen=True)
class ClipScores:
    """N clips, K tags; `scores` in [0, 1] with each subset of the modalities, `targets` above 0 where a clip has it."""

    ids: tuple[str, ...]
    tags: tuple[str, ...]
    families: dict[str, str]  # tag -> family, where known
    groups: dict[str, tuple[int, ...]]  # exclusive group -> its tags
    targets: Float[Tensor, "N K"]
    scores: Mapping[Subset, Float[Tensor, "N K"]]

    def save(self, path: Path) -> None:
        """A safetensors file, whole or absent."""
        from safetensors.torch import save

        facts = {"ids": self.ids, "tags": self.tags, "families": self.families, "groups": self.groups}
        tensors = {name: self.scores[name].float().clone() for name in SUBSETS}
        tensors["targets"] = self.targets.float().clone()
        write_atomically(path, save(tensors, {"mmattn": json.dumps(facts, ensure_ascii=True)}))


def load_clip_scores(path: Path) -> ClipScores:
    """What `save` wrote; loading executes nothing. Raises UsageError for anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            facts = json.loads((opened.metadata() or {})["mmattn"])
            tensors = {name: opened.get_tensor(name) for name in (*SUBSETS, "targets")}
        found = ClipScores(
            ids=tuple(map(str, facts["ids"])),
            tags=tuple(map(str, facts["tags"])),
            families={str(tag): str(family) for tag, family in facts["families"].items()},
            groups={str(name): tuple(int(i) for i in ids) for name, ids in facts["groups"].items()},
            targets=tensors["targets"],
            scores={name: tensors[name] for name in SUBSETS},
        )
        shape = (len(found.ids), len(found.tags))
        if any(tensor.shape != shape for tensor in tensors.values()):
            raise ValueError(f"expected {shape[0]} clips x {shape[1]} tags")
        if any(not 0 <= i < len(found.tags) for ids in found.groups.values() for i in ids):
            raise ValueError("a group names a tag that is not there")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'}"
        raise UsageError(f"{path}: not the scores of an evaluation ({why}); delete it and evaluate again") from None
    return found
