"""The data set that a config's group `data` describes, checked."""

from __future__ import annotations

from dataclasses import fields

from mmattn.config.compose import Config, build
from mmattn.data.features.batches import FeatureData
from mmattn.data.features.source import FeatureSource
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.dataset import SPANS
from mmattn.data.load.splits import SplitData, check_common
from mmattn.errors import UsageError


def build_data(config: Config) -> SplitData:
    """Build from the resolved config group `data`. Raises UsageError for wrong settings."""
    later = ("torchcodec", "label_fraction")  # absent from older configs
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
    """The device if `reader` is torchcodec, else None. Raises UsageError where it cannot be used."""
    reader, device = config.get("reader", "av"), str(config.get("decode_device", "cpu"))
    if reader not in ("av", "torchcodec"):
        raise UsageError(f"data.reader={reader}: expected av or torchcodec")
    if reader == "av" and device != "cpu":
        raise UsageError(f"data.decode_device={device} is for data.reader=torchcodec; av decodes on the CPU")
    if reader == "av":
        return None
    if config["isolated"]:
        raise UsageError("data.reader=torchcodec decodes in the loader's own process; set data.isolated=false")
    from mmattn.media.read.torchcodec import check_installed

    check_installed()
    return device
