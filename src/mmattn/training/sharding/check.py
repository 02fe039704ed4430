"""Which options fit trainer.strategy=fsdp."""

from __future__ import annotations

from mmattn.config.compose import Config
from mmattn.errors import UsageError


def check_shardable(config: Config, processes: int) -> None:
    """Raises UsageError for options that fsdp does not support, and for options of fsdp without it."""
    options = config["trainer"]
    if (kind := options.get("checkpoints", "whole")) not in ("whole", "sharded"):
        raise UsageError(f"trainer.checkpoints={kind}: expected whole or sharded")
    if options.get("strategy", "ddp") != "fsdp":
        for key, default in (("checkpoints", "whole"), ("shard", 0)):
            if options.get(key, default) != default:
                raise UsageError(f"trainer.{key}={options[key]} needs trainer.strategy=fsdp")
        return
    if (shard := options.get("shard", 0)) < 0 or (shard and processes % shard):
        raise UsageError(f"trainer.shard={shard}: expected 0, or a divisor of the {processes} processes")
    for group in ("weight_average", "modality_balance", "freeze", "pretrain"):
        if config.get(group):
            raise UsageError(
                f"trainer.strategy=fsdp shards the weights, and {group} needs them whole; use trainer.strategy=ddp"
            )
    if "Uncertainty" in str(config.get("multitask")):
        raise UsageError(
            "trainer.strategy=fsdp cannot shard the scalar weights of multitask=uncertainty; use multitask=weights"
        )
