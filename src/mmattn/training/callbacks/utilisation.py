"""Model FLOPs utilisation (Chowdhery et al. 2022): FLOP/s of training over the peak FLOP/s of its GPUs."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from mmattn.config.compose import Config

# Dense bfloat16 (of V100 and T4: float16) with float32 sums, in TFLOP/s, from the vendors' data sheets.
PEAKS = {
    **{"B200": 2250.0, "GH200": 989.0, "H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0},
    **{"L40S": 362.0, "A10G": 70.0, "A10": 125.0, "L4": 121.0, "V100": 125.0, "T4": 65.0},
}


class Utilisation(Callback):
    """Counts the matrix products and convolutions of the first batch of training, forward and backward.

    `peak`: of one process's device, FLOP/s. Recomputed blocks (trainer.recompute) count twice.
    """

    def __init__(self, peak: float) -> None:
        self.peak = peak
        self._counter: FlopCounterMode | None = None
        self._by_clip = 0.0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._by_clip:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._counter:
            self._counter.__exit__(None, None, None)
            self._by_clip = self._counter.get_total_flops() / len(batch.ids)
            self._counter = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if self._counter:
            self._counter.__exit__(None, None, None)
            self._counter = None

    def share(self, clips_per_s: float, processes: int) -> float:
        """Utilisation, 0 to 1. `clips_per_s`: of all processes."""
        return self._by_clip * clips_per_s / (self.peak * processes)


def utilisation(config: Config) -> Utilisation | None:
    """The callback; None where the device's peak is unknown (see trainer.peak_tflops), or the model is compiled."""
    options = config["trainer"]
    if options.get("compile"):
        return None
    peak = options.get("peak_tflops")
    if not peak and "16" in str(options["precision"]) and options["accelerator"] != "cpu" and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        peak = next((value for part, value in PEAKS.items() if part in name), None)
    return Utilisation(peak * 1e12) if peak else None
