"""Tables, bar charts and clips of an evaluation in wandb."""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from mmattn.media.write.video import write_video
from mmattn.training.logging.curves import PARTS, by_family, by_head, by_tag
from mmattn.training.logging.wandb_run import STEP
from mmattn.training.loop.module import TrainingModule
from mmattn.weighting.panel import ClipPanel, clip_panels


class WandbCharts(Callback):
    """Logs to wandb after each validation: weightings by tag, family and head, bar charts, and example clips.

    An error of wandb is printed once and does not stop training.
    """

    def __init__(self, families: dict[str, str], clips: int) -> None:
        self.families = families
        self.clips = clips
        self._panels: list[ClipPanel] = []
        self._failed = False

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Here the model has the weights that are evaluated. Collective where the weights are sharded."""
        assert isinstance(pl_module, TrainingModule)
        if batch_idx or not self.clips:
            return
        here = not self._failed and _experiment(trainer) is not None
        if trainer.strategy.broadcast(here):
            self._panels = clip_panels(pl_module.model, batch, self.clips if here else 0)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        experiment = _experiment(trainer)
        if experiment is None or pl_module.evaluation is None or self._failed:
            return
        try:
            self._log(experiment, pl_module.evaluation, trainer.global_step)
        except Exception as error:  # whatever wandb does, training continues
            self._failed = True
            print(f"wandb: charts failed ({error}); the numbers are in the run directory", file=sys.stderr)

    def _log(self, experiment: Any, evaluation: dict[str, Any], step: int) -> None:
        import wandb

        tables = {
            "val/tags": by_tag(evaluation, self.families),
            "val/families": by_family(evaluation),
            "val/heads": by_head(evaluation),
        }
        charts: dict[str, Any] = {name: wandb.Table(columns, rows) for name, (columns, rows) in tables.items()}
        for part in PARTS:
            bars = wandb.Table(*tables["val/families"])
            charts[f"val/bars/{part}"] = wandb.plot.bar(bars, "family", part, title=f"Shapley split: {part}")
        with tempfile.TemporaryDirectory() as folder:
            for number, panel in enumerate(self._panels):
                path = Path(folder) / f"{number}.mp4"
                write_video(path, panel.frames, Fraction(panel.fps).limit_denominator(1000))
                caption = f"{panel.id}: {panel.caption}"
                charts[f"val/clips/{number}"] = wandb.Video(str(path), caption=caption, format="mp4")
            experiment.log({**charts, STEP: step})


def _experiment(trainer: lightning.Trainer) -> Any | None:
    """The wandb run, on the process that has it."""
    found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    return found[0].experiment if found and trainer.is_global_zero else None
