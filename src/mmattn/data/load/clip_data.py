"""Clips for training and validation: read from files or shards, prepared, augmented, in batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mmattn.data.load.cache import ClipCache
from mmattn.data.load.dataset import ClipDataset, Span, missing_clip
from mmattn.data.load.loader import ClipLoader
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.reader import ClipReader
from mmattn.data.load.splits import SplitData
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.views import ClipView
from mmattn.errors import MediaError, UsageError


@dataclass(frozen=True, kw_only=True)
class ClipData(SplitData):
    """`data=...` of a config.

    `cache_gb`: memory of a process and its loader workers for prepared clips, divided among the splits by size.
    `span`: see ClipDataset; evaluation uses the center where training uses random spans. `isolated`, `deadline_s`:
    see ClipReader. `max_bad_fraction`: see Quarantine.
    """

    augment: Augment
    cache_gb: float
    span: Span = "first"
    isolated: bool = True
    deadline_s: float = 60.0
    max_bad_fraction: float = 0.05
    torchcodec: str | None = None  # the device on which it decodes video; None: PyAV decodes everything

    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
        view: ClipView | None = None,
    ) -> ClipDataset:
        """A split. Clips are read when they are accessed, and cached for all datasets of the split.

        `view`: see ClipDataset; its clips are not cached.
        """
        span = "center" if self.span == "random" and not train else self.span
        augment = self.augment if train else augment
        return ClipDataset(
            self.rows[split],
            self.clip,
            vocabulary or self.vocabulary,
            self.reader,
            self._cache(split, "random" if view else span, waveforms=augment is not None and augment.needs_waveform),
            augment=augment,
            seed=self.seed,
            span=span,
            view=view,
            soft=train,
        )

    @cached_property
    def reader(self) -> ClipReader:
        """The reader of this data set's clips, made once in each process."""
        return ClipReader(
            isolated=self.isolated,
            deadline_s=self.deadline_s,
            bundles=self.source.bundles,
            torchcodec=self.torchcodec,
        )

    def close(self) -> None:
        self.reader.close()

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.max_bad_fraction)

    @cached_property
    def _caches(self) -> dict[tuple[str, Span, bool], ClipCache]:
        return {}

    def _cache(self, split: str, span: Span, *, waveforms: bool) -> ClipCache:
        """The cache of clips with waveforms, where the augmentation needs them, or with spectrograms."""
        if (split, span, waveforms) not in self._caches:
            share = len(self.rows[split]) / sum(map(len, self.rows.values()))
            max_bytes = 0 if span == "random" else int(self.cache_gb * 2**30 * share)
            missing = missing_clip(self.clip)
            template = missing if waveforms else self.clip.finish(missing)
            self._caches[split, span, waveforms] = ClipCache(len(self.rows[split]), template, max_bytes)
        return self._caches[split, span, waveforms]

    def check_readable(self) -> None:
        for split in ("train", "val"):
            errors = (self._error(row) for row in self.rows[split])
            first = next(errors)
            if first is not None and all(error is not None for error in errors):
                raise UsageError(f"none of the {len(self.rows[split])} {split} files is readable; the first: {first}")

    def _error(self, row: Row) -> MediaError | None:
        try:
            self.clip.read(row.media, row.start, row.end, reader=self.reader)
        except MediaError as error:
            return error
        return None

    def loader(self, dataset: ClipDataset, *, train: bool, rank: int = 0, world: int = 1) -> ClipLoader:
        sampler = self.sampler(dataset.rows, train=train, rank=rank, world=world)
        return ClipLoader(dataset, sampler, workers=self.workers, quarantine=self.quarantine, clip_s=self.deadline_s)
