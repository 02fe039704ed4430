"""Logs the means of each epoch, and every n steps loss, learning rate and speed."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mmattn.training.callbacks.utilisation import Utilisation
from mmattn.training.distributed.meter import Gather, single_process
from mmattn.training.logging.loggers import log
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.timetable import steps_after


class LogSteps(Callback):
    """Logs `train/NAME`, means of an epoch over the clips of all processes, and every `every` steps `train/step/...`.

    These are the mean loss since the last log, the learning rate, clips per second, the share of time that rank 0
    waited for data, its peak GPU memory, model FLOPs utilisation, and the gradient shares of the last step.

    Must come before the callbacks that save a checkpoint, so that the checkpoint includes all that is logged.
    """

    def __init__(self, every: int, utilisation: Utilisation | None = None) -> None:
        self.every = every
        self.utilisation = utilisation
        self._module: TrainingModule | None = None
        self._state: dict[str, Any] = {}
        self._rate = 0.0
        self._since = self._ended = 0.0  # times of the last log and of the last batch, s
        self._waited = 0.0  # for data since the last log, s
        self._clips = 0  # since the last log

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._module = pl_module
        for name, state in self._state.items():
            meter = pl_module.epoch_meter if name == "epoch" else pl_module.recent_meter
            meter.load_state_dict(state, trainer.global_rank, trainer.world_size, pl_module.device)
        self._begin()

    def _begin(self) -> None:
        self._since = self._ended = time.perf_counter()
        self._waited, self._clips = 0.0, 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._waited += time.perf_counter() - self._ended
        self._rate = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)  # of the next step

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Any
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.log_this_step = (trainer.global_step + 1) % self.every == 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._clips += len(batch.ids) * trainer.world_size
        if steps_after(trainer, batch_idx) and trainer.global_step % self.every == 0:
            took = time.perf_counter() - self._since
            numbers = {**pl_module.step_numbers, "step/lr": self._rate, "step/clips_per_s": self._clips / took}
            numbers |= {"step/waiting": self._waited / took} | _memory(pl_module.device)
            if self.utilisation:
                numbers["step/mfu"] = self.utilisation.share(self._clips / took, trainer.world_size)
            log(trainer, {f"train/{name}": value for name, value in numbers.items()})
            self._begin()
        self._ended = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Time in a validation counts neither as training nor as waiting for data."""
        took = time.perf_counter() - self._paused
        self._since, self._ended = self._since + took, self._ended + took

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        means = pl_module.epoch_meter.read(self._gather())
        pl_module.epoch_meter.reset()
        log(trainer, {f"train/{name}": value for name, value in means.items()})

    def _gather(self) -> Gather:
        """Gathers from all processes. Collective: every process has to call it."""
        if self._module is None or self._module.trainer.world_size == 1:
            return single_process
        strategy = self._module.trainer.strategy

        def gather(value: Tensor) -> Tensor:
            return strategy.all_gather(value)

        return gather

    def state_dict(self) -> dict[str, Any]:
        if self._module is None:
            return {}
        meters = {"epoch": self._module.epoch_meter, "recent": self._module.recent_meter}
        return {name: meter.state_dict(self._gather()) for name, meter in meters.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict


def _memory(device: torch.device) -> dict[str, float]:
    """Peak GPU memory since the last call, GiB; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return {"step/gpu_gib": peak}
