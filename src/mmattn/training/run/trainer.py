"""Lightning's Trainer with the settings, processes and strategy of a config."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from mmattn.config.compose import Config, build
from mmattn.errors import UsageError
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.distributed.group import Processes
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.loop.timetable import Timetable
from mmattn.training.sharding.strategy import Sharing


def _timetable(options: Config) -> Timetable:
    return Timetable(options["validate_every"], options.get("validate_every_steps", 0), options.get("max_steps", 0))


def _optional(config: Config, group: str) -> Any:
    """What an optional group chose; None for nothing, as in the config of a run from before there was the group."""
    return build(config[group]) if config.get(group) else None


def _processes(config: Config) -> Processes:
    """How this process knows its rank, the processes of each node, and the nodes.

    Under torchrun its environment says it all, whatever launcher the run was made with.
    """
    if TorchElasticEnvironment.detect():
        world, here = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return TorchElasticEnvironment(), here, world // here
    launcher = launcher_of(config)
    return launcher.environment(), config["trainer"]["devices"], launcher.nodes


def _trainer(
    config: Config,
    run: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
    keeping: AtomicCheckpointIO,
    processes: Processes,
) -> lightning.Trainer:
    """Raises UsageError for a device, precision or strategy that this machine does not have."""
    options = config["trainer"]
    environment, devices, nodes = processes
    settings: dict[str, Any] = {
        "accelerator": options["accelerator"],
        "devices": devices,
        "num_nodes": nodes,
        "strategy": _strategy(config, processes),
        "precision": options["precision"],
        "max_epochs": options["epochs"],
        "gradient_clip_val": options["gradient_clip"],
        "accumulate_grad_batches": options.get("accumulate", 1),
        "logger": loggers,
        "callbacks": callbacks,
        "plugins": [keeping, environment],
        "default_root_dir": run,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*fp16 is not supported on CPU")  # it would go on in another precision
            return lightning.Trainer(**settings)
    except (ValueError, RuntimeError, UserWarning, MisconfigurationException) as error:
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from None


def _sharded(options: Config, processes: Processes) -> bool:
    return options.get("strategy", "ddp") == "fsdp" and processes[1] * processes[2] > 1


def _strategy(config: Config, processes: Processes) -> Strategy | str:
    _, devices, nodes = processes
    if devices * nodes == 1:
        return "auto"
    if _sharded(config["trainer"], processes):
        options = config["trainer"]
        return Sharing(devices * nodes, options.get("shard", 0), parts=options.get("checkpoints") == "sharded")
    # Our buffers never change. Broadcasting them would make every validation batch wait for all processes, for ever
    # where one of them has a batch less. Frozen weights, and in pretraining those of the tasks, have no gradient that
    # the others could wait for.
    unused = bool(config.get("freeze") or config.get("pretrain"))
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused)


def _quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
