"""Records in run.json on which machines a run was trained: hosts, GPUs, driver, CUDA and NCCL, at each start."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed

from mmattn.files import write_atomically
from mmattn.training.directory.machine import describe_machine
from mmattn.training.directory.names import RUN_FILE


def this_machine() -> dict[str, Any]:
    """The host, and the GPUs that this process sees."""
    found: dict[str, Any] = {"host": socket.gethostname(), "gpus": [], "driver": None}
    found |= {"cuda": torch.version.cuda, "nccl": None}
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        found["driver"] = describe_machine().get("driver")
        if distributed.is_nccl_available():
            from torch.cuda import nccl

            found["nccl"] = ".".join(map(str, nccl.version()))
    return found


class KeepMachines(Callback):
    """Appends to `machines` in run.json: the time, the step, and each host with its number of processes."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        every: list[Any] = [this_machine()]
        if trainer.world_size > 1:
            every = [None] * trainer.world_size
            distributed.all_gather_object(every, this_machine())
        if not trainer.is_global_zero:
            return
        counts = Counter(json.dumps(machine) for machine in every)
        hosts = [{**json.loads(machine), "processes": count} for machine, count in counts.items()]
        started = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": trainer.global_step, "hosts": hosts}
        file = self.run / RUN_FILE
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        record["machines"] = [*record.get("machines", []), started]
        write_atomically(file, json.dumps(record, indent=1).encode())
