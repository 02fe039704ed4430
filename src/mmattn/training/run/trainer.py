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

from mmattn.config.compose import Config
from mmattn.errors import UsageError, first_line
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.distributed.group import Processes
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.sharding.strategy import ShardedStrategy


def processes_of(config: Config) -> Processes:
    """How this process finds its rank, the processes of each node, and the number of nodes.

    Under torchrun the environment gives all three, whatever launcher the run was created with.
    """
    if TorchElasticEnvironment.detect():
        world, here = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return TorchElasticEnvironment(), here, world // here
    launcher = launcher_of(config)
    return launcher.environment(), config["trainer"]["devices"], launcher.nodes


def make_trainer(
    config: Config,
    run: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
    checkpoint_io: AtomicCheckpointIO,
    processes: Processes,
) -> lightning.Trainer:
    """Raises UsageError for a device, precision or strategy that this machine does not support."""
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
        "plugins": [checkpoint_io, environment],
        "default_root_dir": run,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*fp16 is not supported on CPU")  # it would continue in another precision
            return lightning.Trainer(**settings)
    except (ValueError, RuntimeError, UserWarning, MisconfigurationException) as error:
        raise UsageError(f"trainer: {first_line(error)}") from None


def is_sharded(config: Config, processes: Processes) -> bool:
    """Whether the processes hold shards of the weights (FSDP2); one process alone holds them all."""
    return config["trainer"].get("strategy", "ddp") == "fsdp" and processes[1] * processes[2] > 1


def _strategy(config: Config, processes: Processes) -> Strategy | str:
    _, devices, nodes = processes
    if devices * nodes == 1:
        return "auto"
    if is_sharded(config, processes):
        options = config["trainer"]
        return ShardedStrategy(devices * nodes, options.get("shard", 0), parts=options.get("checkpoints") == "sharded")
    # Our buffers never change. Broadcasting them would make every validation batch wait for all processes, forever
    # where one of them has fewer batches. Frozen weights, and in pretraining those of the tasks, have no gradient that
    # the other processes could wait for.
    unused = bool(config.get("freeze") or config.get("pretrain"))
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused)


def quiet_lightning() -> None:
    """Only errors of Lightning's are shown."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
