"""Clips made ready to train and validate on: read from files or shards, prepared, augmented, in batches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

from mmattn.config.compose import Config, build
from mmattn.data.features.batches import FeatureData
from mmattn.data.features.source import FeatureSource
from mmattn.data.load.cache import ClipCache
from mmattn.data.load.dataset import SPANS, ClipDataset, Span, missing_clip
from mmattn.data.load.loader import ClipLoader
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.reader import ClipReader
from mmattn.data.load.splits import SplitData, check_common
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.views import ClipView
from mmattn.errors import MediaError, UsageError


@dataclass(frozen=True, kw_only=True)
class ClipData(SplitData):
    """`data=...` of a config.

    `cache_gb`: memory of a process and its loader workers for prepared clips, shared by the splits as their sizes are.
    `span`: see ClipDataset; evaluation takes the center where training takes random spans. `isolated`, `deadline_s`:
    see ClipReader. `max_bad_fraction`: see Quarantine.
    """

    augment: Augment
    cache_gb: float
    span: Span = "first"
    isolated: bool = True
    deadline_s: float = 60.0
    max_bad_fraction: float = 0.05
    torchcodec: str | None = None  # the device on which it decodes pictures; None: PyAV decodes all

    def dataset(
        self,
        split: str,
        *,
        train: bool = False,
        vocabulary: TagVocabulary | None = None,
        augment: Augment | None = None,
        look: ClipView | None = None,
    ) -> ClipDataset:
        """Nothing is read before it is asked for; what was read is kept for every dataset of the split.

        `look`: see ClipDataset; of it nothing is kept.
        """
        span = "center" if self.span == "random" and not train else self.span
        augment = self.augment if train else augment
        return ClipDataset(
            self.rows[split],
            self.clip,
            vocabulary or self.vocabulary,
            self.reader,
            self._cache(split, "random" if look else span, waveforms=augment is not None and augment.needs_waveform),
            augment=augment,
            seed=self.seed,
            span=span,
            look=look,
            soft=train,
        )

    @cached_property
    def reader(self) -> ClipReader:
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
        """Of prepared clips with waveforms, where the augmentation needs them, or with spectrograms."""
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


def build_data(config: Config) -> SplitData:
    """From the resolved config group `data`. Raises UsageError for what does not fit."""
    later = ("torchcodec", "label_fraction")  # which older configs do not have
    kind = FeatureData if "encoders" in config else ClipData
    if missing := sorted({field.name for field in fields(kind) if field.name not in later} - config.keys()):
        raise UsageError(f"data.{missing[0]} is not set; was the config made by another version of mmattn?")
    check_common(config)
    source = build(config["source"])
    common = {key: config[key] for key in ("batch_size", "workers", "seed", "balance", "clips_per_epoch")}
    common["label_fraction"] = config.get("label_fraction", 1.0)
    if isinstance(source, FeatureSource):
        return FeatureData(source=source, clip=source.clip(), modality_dropout=config["modality_dropout"], **common)
    for key, least in (("cache_gb", 0), ("deadline_s", 0.1)):
        if config[key] < least:
            raise UsageError(f"data.{key}={config[key]}: expected {least} or more")
    if not 0 <= config["max_bad_fraction"] <= 1:
        raise UsageError(f"data.max_bad_fraction={config['max_bad_fraction']}: expected 0 to 1")
    if config["span"] not in SPANS:
        raise UsageError(f"data.span={config['span']}: expected {', '.join(SPANS)}")
    return ClipData(
        source=source,
        clip=build(config["clip"]),
        augment=build(config["augment"]),
        cache_gb=config["cache_gb"],
        span=config["span"],
        isolated=config["isolated"],
        deadline_s=config["deadline_s"],
        max_bad_fraction=config["max_bad_fraction"],
        torchcodec=_torchcodec(config),
        **common,
    )


def _torchcodec(config: Config) -> str | None:
    """Its device, if `reader` asks for it. Raises UsageError where it cannot be had."""
    reader, device = config.get("reader", "av"), str(config.get("decode_device", "cpu"))
    if reader not in ("av", "torchcodec"):
        raise UsageError(f"data.reader={reader}: expected av or torchcodec")
    if reader == "av" and device != "cpu":
        raise UsageError(f"data.decode_device={device} is for data.reader=torchcodec; av decodes on the processor")
    if reader == "av":
        return None
    if config["isolated"]:
        raise UsageError("data.reader=torchcodec decodes in the loader's own process; add data.isolated=false")
    from mmattn.media.read.torchcodec import check_installed

    check_installed()
    return device
