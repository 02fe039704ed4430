"""A data set made ready to train and validate on: rows, vocabulary, loaders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from mmattn.config import Config, build
from mmattn.data.augment import Augment
from mmattn.data.balance import BALANCES, Balance, clip_weights
from mmattn.data.cache import ClipCache
from mmattn.data.dataset import SPANS, ClipDataset, Span, missing_clip
from mmattn.data.labels import TagVocabulary
from mmattn.data.loader import ClipLoader
from mmattn.data.manifest import Row
from mmattn.data.quarantine import Quarantine
from mmattn.data.reading import ClipReader
from mmattn.data.sampler import GlobalBatchSampler
from mmattn.data.sources import Source
from mmattn.data.transforms import ClipSpec
from mmattn.errors import MediaError, UsageError


@dataclass(frozen=True)
class ClipData:
    """`data=...` of a config. `batch_size` counts clips over all processes.

    `cache_gb`: memory of a process and its loader workers for prepared clips, shared by the splits as their sizes are.
    `span`: see ClipDataset; evaluation takes the center where training takes random spans. `reader`, `isolated`,
    `deadline_s`: see ClipReader. `max_bad_fraction`: see Quarantine. `balance`: see clip_weights.
    `clips_per_epoch`: see GlobalBatchSampler; None = all.
    """

    source: Source
    clip: ClipSpec
    augment: Augment
    batch_size: int
    workers: int
    cache_gb: float
    seed: int
    span: Span = "first"
    isolated: bool = True
    deadline_s: float = 60.0
    max_bad_fraction: float = 0.05
    balance: Balance = "none"
    clips_per_epoch: int | None = None

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The rows of each split. Raises UsageError unless there is something to train and to validate on."""
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
        vocabulary = TagVocabulary.from_rows(self.rows["train"])
        if not any(row.tags for row in self.rows["val"]):
            raise UsageError("no validation clip has tags, so nothing could be measured; tag some of them")
        for split in ("val", "test"):
            vocabulary.check_known(self.rows[split], f"{split} split")
        return vocabulary

    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
    ) -> ClipDataset:
        """A split. Nothing is read before it is asked for; what was read is kept for every dataset of the split.

        Training clips are augmented as the config says, others by `augment`.
        """
        span = "center" if self.span == "random" and not train else self.span
        augment = self.augment if train else augment
        return ClipDataset(
            self.rows[split],
            self.clip,
            vocabulary or self.vocabulary,
            self.reader,
            self._cache(split, span, waveforms=augment is not None and augment.needs_waveform),
            augment=augment,
            seed=self.seed,
            span=span,
        )

    @cached_property
    def reader(self) -> ClipReader:
        return ClipReader(isolated=self.isolated, deadline_s=self.deadline_s, bundles=self.source.bundles)

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(self.max_bad_fraction)

    @cached_property
    def _caches(self) -> dict[tuple[str, Span, bool], ClipCache]:
        return {}

    def _cache(self, split: str, span: Span, *, waveforms: bool) -> ClipCache:
        """Of prepared clips with waveforms, where the augmentation needs them, or with spectrograms."""
        if (split, span, waveforms) not in self._caches:
            share = len(self.rows[split]) / sum(map(len, self.rows.values()))
            max_bytes = 0 if span == "random" else int(self.cache_gb * 2**30 * share)
            missing = missing_clip(self.clip)
            template = missing if waveforms else self.clip.finish(missing)
            self._caches[split, span, waveforms] = ClipCache(len(self.rows[split]), template, max_bytes)
        return self._caches[split, span, waveforms]

    def check_readable(self) -> None:
        """Raises UsageError unless the training and validation splits each have a file that can be read."""
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
        sampler = GlobalBatchSampler(
            len(dataset),
            self.batch_size,
            seed=self.seed,
            train=train,
            rank=rank,
            world=world,
            weights=clip_weights([row.tags for row in dataset.rows], self.balance) if train else None,
            length=self.clips_per_epoch,
        )
        return ClipLoader(dataset, sampler, workers=self.workers, quarantine=self.quarantine)


def build_data(config: Config) -> ClipData:
    """From the resolved config group `data`. Raises UsageError for what does not fit."""
    if missing := sorted({field.name for field in fields(ClipData)} - config.keys()):
        raise UsageError(f"data.{missing[0]} is not set; was the config made by another version of mmattn?")
    for key, least in (("batch_size", 1), ("workers", 0), ("cache_gb", 0), ("deadline_s", 0.1)):
        if config[key] < least:
            raise UsageError(f"data.{key}={config[key]}: expected {least} or more")
    if not 0 <= config["max_bad_fraction"] <= 1:
        raise UsageError(f"data.max_bad_fraction={config['max_bad_fraction']}: expected 0 to 1")
    for key, valid in (("span", SPANS), ("balance", BALANCES)):
        if config[key] not in valid:
            raise UsageError(f"data.{key}={config[key]}: expected {', '.join(valid)}")
    if config["clips_per_epoch"] is not None and config["clips_per_epoch"] < 1:
        raise UsageError(f"data.clips_per_epoch={config['clips_per_epoch']}: expected 1 or more, or null for all")
    return ClipData(
        source=build(config["source"]),
        clip=build(config["clip"]),
        augment=build(config["augment"]),
        batch_size=config["batch_size"],
        workers=config["workers"],
        cache_gb=config["cache_gb"],
        seed=config["seed"],
        span=config["span"],
        isolated=config["isolated"],
        deadline_s=config["deadline_s"],
        max_bad_fraction=config["max_bad_fraction"],
        balance=config["balance"],
        clips_per_epoch=config["clips_per_epoch"],
    )
