"""Batches of stored tokens in place of frames and spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmattn.data.features.files import FeatureFiles, Stream
from mmattn.data.features.source import ENCODERS_FILE, FeatureSource
from mmattn.data.load.dataset import rotated
from mmattn.data.load.loader import EpochLoader
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.sampler import Draw
from mmattn.data.load.splits import SplitData
from mmattn.data.manifest.labels import NO_SCORES, TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import ClipSpec
from mmattn.data.prepare.keys import Key
from mmattn.errors import UsageError
from mmattn.types import MODALITIES, Batch, Modality, Tokens, known_full


class Featured(NamedTuple):
    """The tokens of one clip with its target. `real` False: an example that is not counted."""

    id: str
    streams: dict[Modality, Stream]
    target: Tensor
    captions: tuple[str, ...]
    real: bool = True


class FeatureDataset(Dataset[Featured]):
    """`dataset[(epoch, index)]` -> Featured. `modality_dropout`: as in Augment, same draws; `soft`: see ClipDataset."""

    def __init__(
        self,
        rows: Sequence[Row],
        files: FeatureFiles,
        vocabulary: TagVocabulary,
        clip: ClipSpec,
        *,
        modality_dropout: float = 0.0,
        seed: int = 0,
        soft: bool = False,
    ) -> None:
        self.rows = rows
        self.files = files
        self.vocabulary = vocabulary
        self.clip = clip
        self.modality_dropout = modality_dropout
        self.seed = seed
        self.soft = soft

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Featured:
        """The tokens of one draw."""
        draw = Draw(*draw)
        if draw.row < 0:
            return self.example()
        key = Key(self.seed, *draw)
        row = self.rows[key.index]
        streams = self.files.read(row.id)
        if self.modality_dropout and all(stream.keep.any() for stream in streams.values()):
            chance = key.stream("modality_dropout").random()
            for place, name in enumerate(("audio", "video")):
                if place <= chance / self.modality_dropout < place + 1:
                    streams[name] = streams[name]._replace(keep=torch.zeros_like(streams[name].keep))
        target = self.vocabulary.encode(row.tags, row.tag_scores if self.soft else NO_SCORES)
        return Featured(row.id, streams, target, rotated(row.captions, key))

    def example(self) -> Featured:
        """An item of full size which is not counted."""
        return self[Draw(0, 0)]._replace(id="", real=False)

    def collate(self, items: Sequence[Featured]) -> Batch:
        """A batch of tokens. Its frames and spectrogram have length 0."""
        tokens: dict[Modality, Tokens] = {name: _stack([item.streams[name] for item in items]) for name in MODALITIES}
        clips, nothing = len(items), torch.zeros(len(items), 0)
        return Batch(
            frames=torch.zeros(clips, 0, 3, self.clip.height, self.clip.width, dtype=torch.uint8),
            frame_keep=nothing.bool(),
            frame_times=nothing,
            spectrogram=torch.zeros(clips, 0, self.clip.mels),
            spectrogram_keep=nothing.bool(),
            spectrogram_times=nothing,
            ids=tuple(item.id for item in items),
            targets={"tags": torch.stack([item.target for item in items])},
            captions=tuple(item.captions for item in items),
            features=tokens,
            real=torch.tensor([item.real for item in items]),
        )


def _stack(streams: Sequence[Stream]) -> Tokens:
    values, keep, times = (torch.stack(part) for part in zip(*streams, strict=True))
    return Tokens(values.float(), keep, times, known_full(keep))


@dataclass(frozen=True, kw_only=True)
class FeatureData(SplitData):
    """`data=features` of a config."""

    source: FeatureSource
    modality_dropout: float

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout <= 0.5:
            raise UsageError(f"data.modality_dropout={self.modality_dropout}: expected 0 to 0.5")

    @cached_property
    def files(self) -> FeatureFiles:
        """The files of features, opened when they are first read."""
        names = [name for name in self.source.made()["files"] if name != ENCODERS_FILE]
        return FeatureFiles(self.source.folder, names)

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(0.0)

    def close(self) -> None:
        self.files.close()

    def check_readable(self) -> None:
        for rows in self.rows.values():
            if unknown := [row.id for row in rows if row.id not in self.files]:
                missing = f"no features of {unknown[0]!r} ({len(unknown)} such clips)"
                raise UsageError(f"{self.source.folder}: {missing}; run mmattn data features again")

    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
    ) -> FeatureDataset:
        if augment is not None:
            raise UsageError(f"{self.source.folder}: features have no audio or video that could be augmented")
        self.check_readable()
        return FeatureDataset(
            self.rows[split],
            self.files,
            vocabulary or self.vocabulary,
            self.clip,
            modality_dropout=self.modality_dropout if train else 0.0,
            seed=self.seed,
            soft=train,
        )

    def loader(self, dataset: FeatureDataset, *, train: bool, rank: int = 0, world: int = 1) -> EpochLoader:
        return EpochLoader(
            dataset,
            batch_sampler=self.sampler(dataset.rows, train=train, rank=rank, world=world),
            workers=self.workers,
            collate_fn=dataset.collate,
        )

    def encoder_weights(self) -> dict[str, Tensor]:
        weights = self.source.encoder_weights()
        return {name.replace(".", ".encoder.", 1): tensor for name, tensor in weights.items()}
