"""Averaged weights and frozen encoders, on real trainings of a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from mmattn.checkpoint import load_model
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.training.callbacks.freeze import FreezeEncoders
from mmattn.training.callbacks.keep_model import KeepModel
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.adamw import AdamWOneCycle
from mmattn.training.optim.gradients import encoders
from mmattn.training.weight_average.ema import ExponentialAverage
from mmattn.training.weight_average.interface import WeightAverage
from mmattn.training.weight_average.swa import StochasticAverage
from mmattn.types import Batch

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
BATCHES = 3


class Watch(Callback):
    """The weights after each step, at each validation, and what was trained in each epoch."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.modes: list[tuple[bool, bool]] = []
        self.shares: list[Any] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        self.steps.append(_copy(pl_module))
        if trainer.is_last_batch:
            self.modes.append((pl_module.model.visual.training, pl_module.model.audio.training))
            self.shares.append(pl_module.gradients.result())
            pl_module.gradients.reset()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.validated.append(_copy(pl_module))


def _copy(module: TrainingModule) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.model.state_dict().items()}


def _fit(tiny_model: Callable, make_batch: Callable, callback: Callback, epochs: int, accumulate: int = 1) -> Watch:
    watch = Watch()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        callbacks=[watch, callback],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = TrainingModule(tiny_model("fusion=late"), AdamWOneCycle(lr=1e-2, weight_decay=0.1, warmup=0.0))
    loader: Any = DataLoader([make_batch(2, seed=seed) for seed in range(BATCHES)], batch_size=None)  # type: ignore
    trainer.fit(module, loader, loader)
    assert _equal(_copy(module), watch.steps[-1]), "training went on with its own weights"
    return watch


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def _floats(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in weights.items() if tensor.is_floating_point()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_a_validation_sees_the_exponential_average(decay: float, tiny_model: Callable, make_batch: Callable) -> None:
    watch = _fit(tiny_model, make_batch, ExponentialAverage(decay), epochs=2)
    average: dict[str, Tensor] = {}
    for number, weights in enumerate(map(_floats, watch.steps)):
        d = min(decay, (1 + number) / (10 + number)) if number else 0.0
        average = {name: d * average.get(name, w) + (1 - d) * w for name, w in weights.items()}
        if (number + 1) % BATCHES == 0:
            seen = watch.validated[number // BATCHES]
            for name, expected in average.items():
                torch.testing.assert_close(seen[name].double(), expected, rtol=0, atol=1e-6)
    assert _equal(watch.validated[-1], watch.steps[-1]) == (decay == 0.0)


def test_a_validation_sees_the_plain_mean_of_the_last_steps(tiny_model: Callable, make_batch: Callable) -> None:
    watch = _fit(tiny_model, make_batch, StochasticAverage(start=0.5), epochs=4)  # of 12 steps the last 6
    assert _equal(watch.validated[0], watch.steps[BATCHES - 1]), "nothing to average yet"
    for epoch, steps in ((2, watch.steps[6:9]), (3, watch.steps[6:12])):
        for name in _floats(steps[0]):
            expected = torch.stack([step[name].double() for step in steps]).mean(dim=0)
            torch.testing.assert_close(watch.validated[epoch][name].double(), expected, rtol=0, atol=1e-6)


def test_a_run_without_any_score_keeps_its_last_model(
    tiny_model: Callable, tiny_config: Callable, make_batch: Callable, tmp_path: Path
) -> None:
    """No clip to validate on has a tag, so that no mean average precision is defined."""

    def untagged(clips: int, seed: int) -> Batch:
        batch = make_batch(clips, seed=seed)
        return replace(batch, targets={"tags": torch.zeros_like(batch.targets["tags"])})

    keep = KeepModel(tmp_path, tiny_config("fusion=late"), ClipSpec())
    watch = _fit(tiny_model, untagged, keep, epochs=2)
    kept = load_model(tmp_path)
    assert kept.info["epoch"] == 1 and "val_mAP" not in kept.info
    assert _equal(kept.model.state_dict(), watch.steps[-1])


def test_only_steps_count_not_batches(tiny_model: Callable, make_batch: Callable) -> None:
    average = StochasticAverage(start=0.0)
    watch = _fit(tiny_model, make_batch, average, epochs=1, accumulate=2)  # a step after batches 2 and 3
    expected = {n: (w + _floats(watch.steps[2])[n]) / 2 for n, w in _floats(watch.steps[1]).items()}
    assert average.state_dict()["steps"] == 2
    for name, weight in expected.items():
        torch.testing.assert_close(watch.validated[0][name].double(), weight, rtol=0, atol=1e-6)


def test_an_average_goes_on_where_its_state_was_saved() -> None:
    first = ExponentialAverage(0.9)
    first._steps, first._average = 5, {"weight": torch.arange(3.0)}
    second = ExponentialAverage(0.9)
    second.load_state_dict(first.state_dict())
    assert second.share(0.0) == first.share(0.0) == pytest.approx(1 - 6 / 15)
    assert torch.equal(second._average["weight"], torch.arange(3.0))


def test_frozen_encoders_stay_as_they_were_and_are_trained_afterwards(
    tiny_model: Callable, make_batch: Callable
) -> None:
    model = tiny_model("fusion=late")
    watch = _fit(tiny_model, make_batch, FreezeEncoders(epochs=2, stages=1), epochs=3)
    assert watch.modes == [(False, False), (False, False), (True, True)]
    assert watch.shares[0] is None and watch.shares[1] is None, "nothing to share"
    assert 0 < watch.shares[2]["audio"] < 1
    start = model.state_dict()
    frozen, trained = watch.steps[2 * BATCHES - 1], watch.steps[-1]
    for name in (name for name, _ in model.named_parameters()):
        if name.startswith(("visual", "audio")):
            assert torch.equal(frozen[name], start[name]), f"{name}: no gradient, no decay"
            assert not torch.equal(trained[name], start[name]), name
    assert not torch.equal(frozen["task.bias"], start["task.bias"])


def test_stages_open_an_encoder_from_its_output_down(tiny_model: Callable, make_batch: Callable) -> None:
    watch = _fit(tiny_model, make_batch, FreezeEncoders(epochs=1, stages=2), epochs=3)
    start = tiny_model("fusion=late")
    for part, encoder in (("visual", start.visual), ("audio", start.audio)):
        names = [f"{part}.{name}" for name, _ in encoder.named_parameters()]
        half = len(names) - round(len(names) / 2)
        moved = [[not torch.equal(watch.steps[BATCHES * (epoch + 1) - 1][name], start.state_dict()[name])
                  for name in names] for epoch in range(3)]  # fmt: skip
        assert moved == [[False] * len(names), [place >= half for place in range(len(names))], [True] * len(names)]
    assert watch.modes == [(False, False), (False, False), (True, True)]


def test_what_is_frozen_for_good_stays_frozen(tiny_model: Callable, make_batch: Callable) -> None:
    freeze = FreezeEncoders(epochs=1, stages=1)
    model = tiny_model("fusion=late")
    first = next(model.visual.parameters()).requires_grad_(False)
    module = TrainingModule(model, AdamWOneCycle(lr=1e-2, weight_decay=0.0, warmup=0.0))
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    freeze.on_fit_start(trainer, module)
    for epoch, open_ in ((0, False), (1, True)):
        trainer.fit_loop.epoch_progress.current.completed = epoch
        trainer.fit_loop.epoch_progress.current.processed = epoch
        freeze.on_train_batch_start(trainer, module, None, 0)
        assert not first.requires_grad
        assert all(w.requires_grad == open_ for e in encoders(model).values() for w in e.parameters() if w is not first)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ExponentialAverage(1.0),
        lambda: StochasticAverage(1.0),
        lambda: FreezeEncoders(0, 1),
        lambda: FreezeEncoders(1, 0),
    ],
)
def test_wrong_settings_are_refused(wrong: Callable[[], WeightAverage | FreezeEncoders]) -> None:
    with pytest.raises(UsageError, match=r"weight_average|freeze"):
        wrong()
