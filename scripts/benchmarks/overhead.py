"""What training costs beside the model: a step of `mmattn train` against the same model in a bare PyTorch loop.

python scripts/benchmarks/overhead.py [--rounds 5] [key=value of mmattn train ...]

Both take the same batches from memory with the same optimizer and clipping. They take turns, on one thread; processor
time, medians of rounds. Then an epoch from the real loader: the share of wall time spent waiting for data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch.utils.data import DataLoader

from mmattn.config.compose import build, compose
from mmattn.data.build import build_data
from mmattn.model import build_model
from mmattn.training.callbacks.log_steps import LogSteps
from mmattn.training.callbacks.report import Report
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.callbacks.stop_on_signal import StopOnSignal
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.logging.jsonl import JsonlLogger
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.timetable import Timetable
from mmattn.training.run.trainer import make_trainer, quiet_lightning


class Clock(lightning.Callback):
    """Processor time between the ends of steps, the first left out."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._last: float | None = None

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        now = time.process_time()
        if self._last is not None:
            self.steps.append(now - self._last)
        self._last = now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    given, overrides = parser.parse_known_args()
    torch.set_num_threads(1)
    quiet_lightning()
    common = ["data.isolated=false", "trainer.accelerator=cpu", "trainer.epochs=1", "logger=none", "trainer.threads=1"]
    config = compose("train", [*common, *overrides])
    data = build_data(config["data"])
    loader = data.loader(data.dataset("train", train=True), train=True)
    batches, waited, started = [], 0.0, time.perf_counter()
    for batch in loader:  # reads and decodes: the first epoch
        batches.append(batch)
        if len(batches) == given.steps:
            break
    print(f"{len(batches)} batches of {config['data']['batch_size']}, read in {time.perf_counter() - started:.1f} s")
    ours: list[float] = []
    bare: list[float] = []
    for round_ in range(given.rounds + 1):
        pair = (
            statistics.median(lightning_steps(config, data, batches)),
            statistics.median(bare_steps(config, data, batches)),
        )
        if round_:  # the first warms up
            ours.append(pair[0])
            bare.append(pair[1])
    ratios = sorted(one / other for one, other in zip(ours, bare, strict=True))
    print(f"step: {1e3 * statistics.median(ours):.1f} ms, bare loop {1e3 * statistics.median(bare):.1f} ms")
    print(
        f"overhead: median {100 * (statistics.median(ratios) - 1):+.1f} %, rounds {ratios[0]:.3f} to {ratios[-1]:.3f}"
    )
    model, whole = build_model(config, data.vocabulary), time.perf_counter()
    module = TrainingModule(model, build(config["optim"]))
    optimizer, _ = module.optim.build(model, 100)
    source = iter(data.loader(data.dataset("train", train=True), train=True))
    for _ in batches:
        asked = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - asked
        optimizer.zero_grad()
        module.losses(batch)["loss"].backward()
        optimizer.step()
    print(f"waiting for data: {100 * waited / (time.perf_counter() - whole):.1f} % (clips in memory, augmented anew)")
    data.close()


def lightning_steps(config: Any, data: Any, batches: list[Any]) -> list[float]:
    """As `mmattn train` runs them: its module, its callbacks, its metrics file."""
    torch.manual_seed(0)
    module, clock = TrainingModule(build_model(config, data.vocabulary), build(config["optim"])), Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        timetable = Timetable()
        saving = StopOnSignal(run, module.consensus, timetable)
        callbacks = [timetable, LogSteps(10), saving, SeedSteps(0), Report("x"), clock]
        trainer = make_trainer(
            config, run, [JsonlLogger(run)], callbacks, AtomicCheckpointIO(), (LightningEnvironment(), 1, 1)
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return clock.steps


def bare_steps(config: Any, data: Any, batches: list[Any]) -> list[float]:
    torch.manual_seed(0)
    model = build_model(config, data.vocabulary).train()
    optimizer, schedule = build(config["optim"]).build(model, len(batches))
    taken, last = [], None
    for batch in batches:
        logits = model(batch)
        loss = model.task.loss(logits, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config["trainer"]["gradient_clip"])
        optimizer.step()
        schedule.step()
        now = time.process_time()
        if last is not None:
            taken.append(now - last)
        last = now
    return taken


if __name__ == "__main__":
    main()
