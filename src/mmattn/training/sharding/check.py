"""Which options fit trainer.strategy=fsdp."""

from __future__ import annotations

from mmattn.config.compose import Config
from mmattn.errors import UsageError


def check_shardable(config: Config, processes: int) -> None:
    """Raises UsageError for options that need all weights in every process, and for those of fsdp without it."""
    options = config["trainer"]
    if (kind := options.get("checkpoints", "whole")) not in ("whole", "sharded"):
        raise UsageError(f"trainer.checkpoints={kind}: expected whole or sharded")
    if options.get("strategy", "ddp") != "fsdp":
        for key, default in (("checkpoints", "whole"), ("shard", 0)):
            if options.get(key, default) != default:
                raise UsageError(f"trainer.{key}={options[key]} is for trainer.strategy=fsdp, which shares weights out")
        return
    if (shard := options.get("shard", 0)) < 0 or (shard and processes % shard):
        raise UsageError(f"trainer.shard={shard}: expected 0, or what divides the {processes} processes")
    for group in ("weight_average", "modality_balance", "freeze"):
        if config.get(group):
            raise UsageError(f"trainer.strategy=fsdp shares weights out, {group} needs them whole; use strategy=ddp")
    if "Uncertainty" in str(config.get("multitask")):
        raise UsageError("trainer.strategy=fsdp cannot share out the single weights of multitask=uncertainty")
