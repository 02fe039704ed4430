"""The tag vocabulary: names in a fixed order, and which tags are mutually exclusive.

Tags named `group/name` belong to a group. A group is exclusive when every training clip has exactly one tag of it
(the six word slots of a spoken sentence, say): its tags then share a softmax.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError
from mmattn.text import counted

CLASSES = "classes"  # the name of the one group where tags are bare: one class a clip
NO_SCORES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class TagVocabulary:
    """The tags that a model predicts, in order."""

    names: tuple[str, ...]
    exclusive: tuple[tuple[int, ...], ...] = ()  # indices of the tags of each exclusive group
    families: dict[str, str] = field(default_factory=dict)  # tag -> family, where the manifest gives it
    counts: tuple[int, ...] = ()  # training clips with each tag; () where they were not counted
    clips: int = 0  # training clips

    @classmethod
    def from_rows(cls, rows: Sequence[Row]) -> TagVocabulary:
        """Build from the training rows. Raises UsageError if they have no tags, or all the same ones."""
        names = tuple(sorted({tag for row in rows for tag in row.tags}))
        if not names:
            raise UsageError("no training clip has tags; tagging needs a 'tags' column or one folder a class")
        if len(rows) > 1 and all(set(row.tags) == set(names) for row in rows):
            same = f"every training clip is tagged {', '.join(names[:5])} and nothing else"
            raise UsageError(
                f"{same}, so there is nothing to distinguish; add clips of another class or without the tag"
            )
        known = frozenset(names)
        families = {tag: family for row in rows for tag, family in row.families.items() if tag in known}
        clips_with = Counter(tag for row in rows for tag in set(row.tags))
        counts = tuple(clips_with[name] for name in names)
        return cls(names, _exclusive_groups(names, rows), families, counts, len(rows))

    @cached_property
    def place(self) -> dict[str, int]:
        """The index of each tag."""
        return {name: index for index, name in enumerate(self.names)}

    def encode(self, tags: Sequence[str], scores: Mapping[str, float] = NO_SCORES) -> Float[Tensor, " K"]:
        """The target (K,) of a clip: 1 for each of its tags, or its score in `scores`; 0 for the others.

        Raises UsageError for an unknown tag. A vocabulary without tags, of a model that only captions, accepts all.
        """
        if not self.names:
            return torch.zeros(0)
        target = torch.zeros(len(self.names))
        for tag in tags:
            if tag not in self.place:
                raise UsageError(f"tag {tag!r} was not seen in training")
            target[self.place[tag]] = scores.get(tag, 1.0)
        return target

    def check_known(self, rows: Sequence[Row], where: str) -> None:
        """Raise UsageError naming the tags of `rows` that no training clip has."""
        if not self.names:
            return
        unseen = Counter(tag for row in rows for tag in row.tags if tag not in self.place)
        if unseen:
            shown = ", ".join(f"{tag} ({counted(count, 'clip')})" for tag, count in unseen.most_common(5))
            more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            raise UsageError(f"{where}: tags unseen in training: {shown}{more}; relabel them or add training clips")

    def groups(self) -> dict[str, tuple[int, ...]]:
        """The exclusive groups by name; bare tags are the group `classes`."""
        first = {self.names[indices[0]]: indices for indices in self.exclusive}
        return {name.split("/", 1)[0] if "/" in name else CLASSES: indices for name, indices in first.items()}

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {
            "names": list(self.names),
            "exclusive": [list(indices) for indices in self.exclusive],
            "families": self.families,
            "counts": list(self.counts),
            "clips": self.clips,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TagVocabulary:
        """The reverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        names = tuple(map(str, record["names"]))
        exclusive = tuple(tuple(int(i) for i in indices) for indices in record["exclusive"])
        if any(not 0 <= i < len(names) for indices in exclusive for i in indices):
            raise ValueError(f"exclusive groups {exclusive} reach beyond {len(names)} tags")
        counts = tuple(int(count) for count in record.get("counts", ()))  # older models have none
        if counts and len(counts) != len(names):
            raise ValueError(f"{len(counts)} counts for {len(names)} tags")
        return cls(names, exclusive, dict(record["families"]), counts, int(record.get("clips", 0)))


def _exclusive_groups(names: tuple[str, ...], rows: Sequence[Row]) -> tuple[tuple[int, ...], ...]:
    if any(row.tag_scores for row in rows):
        return ()  # scores are not exclusive
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name.split("/", 1)[0] if "/" in name else "", []).append(i)
    counts = Counter()  # group -> clips with exactly one tag of it
    for row in rows:
        per_group = Counter(tag.split("/", 1)[0] for tag in set(row.tags) if "/" in tag)
        counts.update(group for group, count in per_group.items() if count == 1)
    bare = not any("/" in name for name in names)
    if bare and len(names) > 1 and all(len(set(row.tags)) == 1 for row in rows):
        return (tuple(range(len(names))),)  # one class a clip, as from one folder a class
    return tuple(tuple(ids) for group, ids in groups.items() if group and len(ids) > 1 and counts[group] == len(rows))
