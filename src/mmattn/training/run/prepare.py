"""From a composed config to a checked run directory."""

from __future__ import annotations

from pathlib import Path

from mmattn.config.compose import Config
from mmattn.data.load.splits import SplitData
from mmattn.errors import UsageError
from mmattn.model import resolved
from mmattn.training.directory.create import create_run


def prepare(config: Config) -> tuple[Path, SplitData]:
    """Build and check everything the run needs, then create its directory. Raises UsageError."""
    from mmattn.data.features.source import with_frozen_encoders
    from mmattn.training.run.check import check

    config = with_frozen_encoders(with_devices(config))
    data, model = check(config)
    weights = sum(weight.numel() for weight in model.parameters())
    return create_run(resolved(config, model), weights), data


def prepare_again(config: Config) -> Config:
    """The config of a run that is resumed with other settings of the machine, checked. Raises UsageError."""
    from mmattn.training.run.check import check_machine_settings

    check_machine_settings(config := with_devices(config))
    return config


def with_devices(config: Config) -> Config:
    """trainer.devices=0 resolved: one for each GPU of this machine, or one without GPUs."""
    if config["trainer"]["devices"]:
        return config
    if config["launcher"]["_target_"].endswith("Slurm"):
        raise UsageError("trainer.devices=0: the GPUs of the cluster's nodes are not known here; set trainer.devices=N")
    import torch

    gpus = torch.cuda.device_count() if config["trainer"]["accelerator"] != "cpu" else 0
    return {**config, "trainer": {**config["trainer"], "devices": max(1, gpus)}}
