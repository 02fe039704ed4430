"""The Lightning module: it trains an AVModel and knows nothing else. The model itself has no Lightning in it."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from mmattn.attention.regularise import Regulariser
from mmattn.errors import MmattnError
from mmattn.model import AVModel
from mmattn.training.loop.balance import ModalityBalance
from mmattn.training.loop.curves import curves
from mmattn.training.loop.gradients import GradientMeter, gradient_norm
from mmattn.training.loop.multitask import FixedWeights, TaskWeights
from mmattn.training.loop.optim import AdamWOneCycle
from mmattn.training.loop.self_critical import SelfCritical
from mmattn.types import Batch, Fused
from mmattn.weighting.evaluation import Evaluation

RESAMPLED = 200  # times the clips are drawn anew for the intervals of a validation


class TrainingModule(lightning.LightningModule):
    """Steps and logging. The last validation is in `evaluation` afterwards, the tags' `thresholds` beside it."""

    def __init__(
        self,
        model: AVModel,
        optim: AdamWOneCycle,
        regulariser: Regulariser | None = None,
        balance: ModalityBalance | None = None,
        multitask: TaskWeights | None = None,
        self_critical: SelfCritical | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.regulariser = regulariser
        self.balance = balance
        self.multitask = multitask or FixedWeights()
        self.self_critical = self_critical
        self.gradients = GradientMeter()
        self.optim = optim
        self.evaluation: dict[str, Any] | None = None
        self.thresholds: dict[str, float] = {}  # that it was evaluated with
        self._running: Evaluation | None = None
        self._losses: list[tuple[float, int]] = []  # (sum over clips, clips) of each validation batch

    def training_step(self, batch: Batch, _: int) -> Tensor:
        losses = self.losses(batch)
        values = {f"train/{name}": value.detach() for name, value in losses.items()}
        if clips := int(batch.real.sum()):
            self.log_dict(values, on_step=False, on_epoch=True, batch_size=clips)
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
        """Measure how the gradient is shared, and let what balances the modalities change the step."""
        self._check_finite()
        numbers = {f"gradient_{name}": value for name, value in self.gradients.update(self.model).items()}
        if self.balance:
            if self.balance.sums is not None and self.trainer.world_size > 1:
                self.balance.sums = self.trainer.strategy.reduce(self.balance.sums, reduce_op="sum")
            numbers |= self.balance.before_step(self.model, optimizer, self.global_step)
        self.log_dict({f"train/{name}": value for name, value in numbers.items()}, on_step=True, rank_zero_only=True)

    def _check_finite(self) -> None:
        """Stop every process before a step that would spoil the weights."""
        if self.trainer.precision == "16-mixed":
            return  # its scaler expects infinite gradients now and then, and skips those steps itself
        norm = gradient_norm(self)
        finite = norm.isfinite().float()
        if self.trainer.world_size > 1:
            finite = self.trainer.strategy.reduce(finite, reduce_op="mean")
        if float(finite) < 1:
            raise MmattnError(
                f"step {self.global_step}: the gradient is not finite (norm {float(norm)} on rank "
                f"{self.global_rank}); lower optim.lr or set trainer.precision=32-true"
            )

    def on_validation_epoch_start(self) -> None:
        self._running = Evaluation(self.model.task.vocabulary, permutations=True)
        self._losses = []

    def validation_step(self, batch: Batch, _: int) -> None:
        assert self._running is not None
        fused = self._running.update(self.model, batch)
        loss = self.multitask(self.model.losses(fused, batch))[0]
        clips = int(batch.real.sum())
        self._losses.append((float(loss) * clips, clips))

    def on_validation_epoch_end(self) -> None:
        assert self._running is not None
        losses = self._losses
        if self.trainer.world_size > 1:  # a process may have had no validation batch at all, but all come here
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
        self.log_dict({"val/loss": mean_loss, **curves(self.evaluation)}, rank_zero_only=True)
        self._running = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gradients"] = self.gradients.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "gradients" in checkpoint:
            self.gradients.load_state_dict(checkpoint["gradients"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        more = list(self.multitask.parameters())
        optimizer, schedule = self.optim.build(self.model, int(self.trainer.estimated_stepping_batches), more)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
