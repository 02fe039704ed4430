"""The Lightning module that trains an AVModel. The model itself does not depend on Lightning."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mmattn.attention.regularisers import Regulariser
from mmattn.model import AVModel
from mmattn.tasks.distributed import each_process
from mmattn.training.checkpoints.left_out import drop_from, put_back
from mmattn.training.distributed.consensus import StepConsensus
from mmattn.training.distributed.meter import Meter, wide
from mmattn.training.logging.curves import curves
from mmattn.training.logging.loggers import log
from mmattn.training.loop.timetable import total_steps
from mmattn.training.modality_balance.interface import ModalityBalance
from mmattn.training.multitask.interface import TaskWeights
from mmattn.training.multitask.weights import FixedWeights
from mmattn.training.optim.adamw import AdamWOneCycle
from mmattn.training.optim.gradients import GradientMeter, gradient_norm
from mmattn.training.optim.self_critical import SelfCritical
from mmattn.types import Batch, Fused
from mmattn.weighting.evaluation import Evaluation

RESAMPLED = 200  # bootstrap resamples for the intervals of a validation


class TrainingModule(lightning.LightningModule):
    """Training and validation steps. `evaluation` and `thresholds` hold the result of the last validation."""

    def __init__(
        self,
        model: AVModel,
        optim: AdamWOneCycle,
        regulariser: Regulariser | None = None,
        balance: ModalityBalance | None = None,
        multitask: TaskWeights | None = None,
        self_critical: SelfCritical | None = None,
        max_steps: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.regulariser = regulariser
        self.balance = balance
        self.multitask = multitask or FixedWeights()
        self.self_critical = self_critical
        self.max_steps = max_steps
        self.gradients = GradientMeter()
        self.epoch_meter = Meter()
        self.recent_meter = Meter()  # the loss since the last log
        self.consensus = StepConsensus()
        self.log_this_step = False  # whether the next step is logged
        self.step_numbers: dict[str, float] = {}  # of the last logged step, by name
        self.optim = optim
        self.evaluation: dict[str, Any] | None = None
        self.validated: dict[str, float] = {}  # its metrics, by their logged names
        self.thresholds: dict[str, float] = {}  # used for it
        self._running: Evaluation | None = None
        self._losses: list[tuple[float, float]] = []  # (sum over clips, clips) of each validation batch

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(batch)
        clips = each_process(batch.real.sum(), least=0.0)
        self.epoch_meter.add(losses, clips)
        self.recent_meter.add({"loss": losses["loss"]}, clips)
        return losses["loss"]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise."""
        video, audio = self.model.encode(batch)
        fused = self.model.fuse(video, audio, self.regulariser.needs if self.regulariser else frozenset())
        losses = self._losses_of(fused, batch)
        more = {"regulariser": self.regulariser(fused.stats)} if self.regulariser else {}
        if self.balance:
            more |= self.balance.terms(self.model, video, audio, batch)
        return {**losses, "loss": losses["loss"] + sum(more.values()), **more}

    def _losses_of(self, fused: Fused, batch: Batch) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise."""
        by_task, log = self.model.losses(fused, batch), {}
        if self.self_critical and self.model.captions and self.current_epoch >= self.self_critical.from_epoch:
            rewarded, log["reward"] = self.self_critical.loss(self.model.captions, fused, batch, self.global_step)
            share = self.self_critical.weight
            by_task["captions"] = share * rewarded + (1 - share) * by_task["captions"]
        loss, weights = self.multitask(by_task)
        more = {f"loss_{task}": value for task, value in by_task.items()} if len(by_task) > 1 else {}
        return {"loss": loss, **more, **weights, **log}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measure the gradient, agree with all processes on the step, and apply the modality balance.

        All values of a step are read here together, so the device is synchronised once per step.
        """
        shares = self.gradients.update(self.model)
        measured = torch.stack(list(shares.values()))
        balance = self.balance.sums if self.balance else None
        parts = [
            measured[:0] if balance is None else wide(balance),
            self.recent_meter.sums().flatten() if self.log_this_step else measured[:0],
            measured if self.log_this_step else measured[:0],
        ]
        rows = self.consensus.before_step(self.trainer, gradient_norm(self), torch.cat(parts))
        balances, losses, gradients = rows.split([len(part) for part in parts], dim=1)
        numbers: dict[str, float] = {}
        if self.log_this_step:
            means = self.recent_meter.means(losses.unflatten(1, (-1, 2)))
            self.recent_meter.reset()
            numbers |= {f"step/{name}": value for name, value in means.items()}
            numbers |= {f"gradient_{n}": value for n, value in zip(shares, gradients[0].tolist(), strict=True)}
        if self.balance:
            self.balance.sums = None if balance is None else balances.sum(dim=0)
            numbers |= self.balance.before_step(self.model, optimizer, self.global_step)
        self.step_numbers = numbers

    def on_validation_epoch_start(self) -> None:
        self._running = Evaluation(self.model.task.vocabulary, permutations=True)
        self._losses = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self._running is not None
        fused = self._running.update(self.model, batch)
        loss = self.multitask(self.model.losses(fused, batch))[0]
        clips = float(each_process(batch.real.sum(), least=0.0))
        self._losses.append((float(loss) * clips if clips else 0.0, clips))

    def on_validation_epoch_end(self) -> None:
        assert self._running is not None
        losses = self._losses
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, (self._running, losses))
            self._running = Evaluation(self.model.task.vocabulary)
            self._running.merge(running for running, _ in parts)
            losses = [loss for _, part in parts for loss in part]
        self.thresholds = self._running.thresholds(self.model.task)
        evaluation = self._running.result(RESAMPLED, self.thresholds)
        self.evaluation = evaluation | {"gradient_share": self.gradients.result()}
        self.gradients.reset()
        mean_loss = sum(total for total, _ in losses) / sum(clips for _, clips in losses)
        self.validated = {"val/loss": mean_loss, **curves(self.evaluation)}
        log(self.trainer, self.validated)
        self._running = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gradients"] = self.gradients.state_dict()
        drop_from(checkpoint, self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        put_back(checkpoint, self.model)
        if "gradients" in checkpoint:
            self.gradients.load_state_dict(checkpoint["gradients"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        scaled = self.trainer.precision == "16-mixed"
        optimizer, schedule = self.optim.build(self.model, self.total_steps, self.beside(), scaled)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def beside(self) -> list[nn.Parameter]:
        """Parameters that are trained besides those of the model."""
        return list(self.multitask.parameters())

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps(self.trainer, self.max_steps)
