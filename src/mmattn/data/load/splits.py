"""The splits of a data set for training and evaluation, however its clips are stored."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from mmattn.config.compose import Config
from mmattn.data.load.balance import BALANCES, Balance, clip_weights
from mmattn.data.load.loader import EpochLoader
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.sampler import GlobalBatchSampler
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import Source, held_out
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SplitData(ABC):
    """A data set with its splits, vocabulary and loaders.

    `clip`: what a model sees of each clip. `batch_size` counts clips over all processes, `workers` are loader
    processes. `balance`: see clip_weights. `clips_per_epoch`: see GlobalBatchSampler; None = all. `label_fraction`: the
    fraction of the training clips that is used, the same ones for the same seed.
    """

    source: Source
    clip: ClipSpec
    batch_size: int
    workers: int
    seed: int
    balance: Balance = "none"
    clips_per_epoch: int | None = None
    label_fraction: float = 1.0

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The rows of each split. Raises UsageError unless there are clips to train and to validate on."""
        splits = self._all_rows
        if self.label_fraction == 1:
            return splits
        drawn = [row for row in splits["train"] if held_out(f"{self.seed}/{row.id}", self.label_fraction) == "val"]
        if not drawn:
            raise UsageError(f"data.label_fraction={self.label_fraction}: no training clip is left; set it higher")
        return {**splits, "train": drawn}

    @cached_property
    def _all_rows(self) -> dict[str, list[Row]]:
        """The rows before `label_fraction` is applied; the vocabulary has the tags of all of them."""
        splits: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
        for row in self.source.rows():
            splits[row.split or "train"].append(row)
        for name in ("train", "val"):
            if not splits[name]:
                counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
                raise UsageError(f"the data set has no {name} clips ({counts}); set the 'split' column")
        return splits

    @cached_property
    def vocabulary(self) -> TagVocabulary:
        """The tags of the training clips. Raises UsageError if the other splits do not fit it."""
        known = self.rows if self.label_fraction == 1 else self._all_rows
        vocabulary = TagVocabulary.from_rows(known["train"])
        if not any(row.tags for row in self.rows["val"]):
            raise UsageError("no validation clip has tags, so nothing could be measured; add tags to some of them")
        for split in ("val", "test"):
            vocabulary.check_known(self.rows[split], f"{split} split")
        return vocabulary

    @cached_property
    def digest(self) -> str:
        """A hash of the training clips and their labels, without the media's content and paths."""
        found = hashlib.sha256()
        for row in self.rows["train"]:
            labels = (row.id, row.start, row.end, row.tags, row.captions, *([row.tag_scores] if row.tag_scores else []))
            found.update(json.dumps(labels, ensure_ascii=True).encode() + b"\n")
        return found.hexdigest()

    def training_captions(self) -> list[str]:
        """All captions of the training clips. Raises UsageError if there are none to train or to validate on."""
        for split, word in (("train", "training"), ("val", "validation")):
            if not any(row.captions for row in self.rows[split]):
                raise UsageError(f"no {word} clip has captions; captioning needs a 'captions' column")
        return [caption for row in self.rows["train"] for caption in row.captions]

    @cached_property
    @abstractmethod
    def quarantine(self) -> Quarantine:
        """The unreadable clips."""

    @abstractmethod
    def check_readable(self) -> None:
        """Raise UsageError unless some clips can be read to train and to validate on."""

    @abstractmethod
    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
    ) -> Any:
        """A split. With `train`, clips are augmented by the config, otherwise by `augment`."""

    @abstractmethod
    def loader(self, dataset: Any, *, train: bool, rank: int = 0, world: int = 1) -> EpochLoader:
        """This process's share of the batches of `dataset`."""

    @abstractmethod
    def close(self) -> None:
        """Close reader processes and open files; they are opened again when needed."""

    def encoder_weights(self) -> dict[str, Tensor]:
        """Initial weights of the model's encoders by their names in the model; empty: as they were built."""
        return {}

    def sampler(self, rows: Sequence[Row], *, train: bool, rank: int, world: int) -> GlobalBatchSampler:
        """The sampler of this process."""
        return GlobalBatchSampler(
            len(rows),
            self.batch_size,
            seed=self.seed,
            train=train,
            rank=rank,
            world=world,
            weights=clip_weights([row.tags for row in rows], self.balance) if train else None,
            length=self.clips_per_epoch,
        )


def check_common(config: Config) -> None:
    """Raise UsageError for settings of the group `data` that are wrong for every data set."""
    if not 0 < config.get("label_fraction", 1.0) <= 1:
        raise UsageError(f"data.label_fraction={config['label_fraction']}: expected more than 0 and at most 1")
    for key, least in (("batch_size", 1), ("workers", 0)):
        if config[key] < least:
            raise UsageError(f"data.{key}={config[key]}: expected {least} or more")
    if config["balance"] not in BALANCES:
        raise UsageError(f"data.balance={config['balance']}: expected {', '.join(BALANCES)}")
    if config["clips_per_epoch"] is not None and config["clips_per_epoch"] < 1:
        raise UsageError(f"data.clips_per_epoch={config['clips_per_epoch']}: expected 1 or more, or null for all")
