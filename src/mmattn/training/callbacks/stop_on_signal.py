"""Stopping on a signal, with the work kept; under Slurm the job goes back into the queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.errors import Stopped
from mmattn.process.signals import APART_S, ENDING, end_on_second, stop_signals
from mmattn.progress import log
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.distributed.consensus import StepConsensus
from mmattn.training.loop.timetable import Timetable, steps_after

_JOB = re.compile(r"[0-9]+(_[0-9]+)?")


class StopOnSignal(Callback):
    """On SIGINT or SIGTERM, saves and stops after the step, or after the batch of a validation, on all processes.

    The handler only sets a flag, on which the processes then agree. A second signal, a second or more later, ends
    training at once without saving, and the process `END_S` later whatever it waits for.

    SIGUSR1, Slurm's warning before a job's time is up, also requeues the job, once. After SIGTERM Slurm itself requeues
    a preempted job; a cancelled job must not be requeued. Lightning's own handler hangs DDP when a rank other than 0
    gets the signal. `save_every`: steps between checkpoints within an epoch; 0 = none.

    Where a validation follows a step, the checkpoint is written at the start of the validation and records that it is
    due; at the end of an epoch, after everything that belongs to the epoch.
    """

    def __init__(self, run: Path, consensus: StepConsensus, timetable: Timetable, save_every: int = 0) -> None:
        self.run = run
        self.consensus = consensus
        self.timetable = timetable
        self.save_every = save_every
        self._at = 0.0  # when the first signal came, s
        self._saved = 0
        self._before: dict[int, Any] = {}
        self._woken: tuple[int, int] | None = None  # the wakeup fd before, and ours
        self._reports = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved = trainer.global_step
        self._reports = trainer.is_global_zero
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._flag)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False), writing
        threading.Thread(target=end_on_second, args=(reading,), name="signals", daemon=True).start()

    def _flag(self, number: int, frame: FrameType | None) -> None:
        received = self.consensus.received
        if not received:
            self.consensus.received, self._at = number, time.monotonic()
            if self._reports:  # not print, which may be what was interrupted
                os.write(2, b"stopping after this step; a second signal stops at once, without saving\n")
        elif {number, received} <= ENDING and time.monotonic() - self._at > APART_S:
            self._at = float("inf")  # once
            stopped = Stopped(f"stopped at once by a second signal; continue with: mmattn train resume={self.run}")
            stopped.exit_code = 128 + number
            raise stopped

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Not within a step, whose partly accumulated gradient would be lost."""
        if steps_after(trainer, batch_idx) and not self.timetable.owed and not trainer.is_last_batch:
            self._save_or_stop(trainer, self.consensus.signal)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save_or_stop(trainer, self.consensus.shared_signal(trainer, pl_module))

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if received := self.consensus.shared_signal(trainer, pl_module):
            self._save_or_stop(trainer, received)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save_or_stop(trainer, self.consensus.shared_signal(trainer, pl_module), due=True)

    def _save_or_stop(self, trainer: lightning.Trainer, received: int, due: bool = False) -> None:
        due = due or bool(self.save_every and trainer.global_step - self._saved >= self.save_every)
        if received and trainer.is_global_zero:
            log(f"stopping: saving step {trainer.global_step}")
        if received or due:
            trainer.save_checkpoint(self.run / LAST)
            self._saved = trainer.global_step
        if received:
            raise self._stopped(trainer, received)

    def _stopped(self, trainer: lightning.Trainer, received: int) -> Stopped:
        again = f"continue with: mmattn train resume={self.run}"
        if received == signal.SIGUSR1 and trainer.is_global_zero and requeue():
            again = "the job is back in the queue and will continue"
        stopped = Stopped(f"stopped at step {trainer.global_step}; {again}")
        stopped.exit_code = 128 + received
        return stopped

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._woken:
            before, writing = self._woken
            signal.set_wakeup_fd(before)
            os.close(writing)
            self._woken = None


def requeue() -> bool:
    """Put this Slurm job (or this task of an array) back into the queue; prints why where that fails."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else os.environ.get("SLURM_JOB_ID", "")
    if not _JOB.fullmatch(job):
        return False
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:1]
        print(f"mmattn: scontrol requeue {job} failed ({''.join(reason)})", file=sys.stderr)
        return False
    return True
