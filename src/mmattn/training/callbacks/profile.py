"""trainer.profile=steps: a few steps under torch.profiler, as a trace (for ui.perfetto.dev) and a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile, schedule

from mmattn.errors import UsageError
from mmattn.files import write_atomically

FOLDER = "profile"
WAIT, WARM_UP, STEPS = 2, 1, 3  # batches; the first ones are slower than the rest
KINDS = (None, "steps")


class ProfileSteps(Callback):
    """Profiles rank 0. Profiled batches are slower than others, so their times are no measure of speed."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self._profile: profile | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        activities = [ProfilerActivity.CPU]
        if pl_module.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.folder.mkdir(exist_ok=True)
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=WAIT, warmup=WARM_UP, active=STEPS, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
            profile_memory=True,
        )
        self._profile.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._profile:
            self._profile.step()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stops the profile, because a validation would dominate it."""
        self._end()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._end()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._profile:
            self._profile.stop()
            self._profile = None

    def _write(self, profiled: profile) -> None:
        device = "cuda" if ProfilerActivity.CUDA in profiled.activities else "cpu"
        rows = profiled.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=40)
        write_atomically(self.folder / "table.txt", rows.encode())
        profiled.export_chrome_trace(str(self.folder / "trace.json.gz"))
        print(f"{self.folder}: trace.json.gz and table.txt of {STEPS} batches at most", file=sys.stderr)


def check_profile(kind: str | None) -> None:
    """Raises UsageError for an unknown kind of profile."""
    if kind not in KINDS:
        raise UsageError(f"trainer.profile={kind}: expected steps or null")
