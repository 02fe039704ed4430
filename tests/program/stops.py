"""Strikes a training process at every moment, each once over all the times that the run is started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmattn.training.callbacks.keep_model import KeepModel
from mmattn.training.callbacks.log_steps import LogSteps
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.callbacks.stop_on_signal import StopOnSignal
from mmattn.training.loop.module import TrainingModule


class Died(BaseException):
    """Nothing is done any more after it, as after a kill."""


def strike_at_every(put: Callable[..., Any], how: str, struck: Path, rank: str = "0") -> Callable[[], list[str]]:
    """`put(class, name, method)` in place what strikes: `how` is a signal's name or "death". Returns what tells the
    moments so far, which are kept in the file `struck`. The variable MMATTN_MOMENTS has those that count, if not all.
    """
    chosen = os.environ.get("MMATTN_MOMENTS")
    stopping: list[str] = []  # moments since the process was struck; it goes on to the end of a step

    def moments() -> list[str]:
        return struck.read_text().splitlines() if struck.is_file() else []

    def come(moment: str) -> None:
        if moment in moments() or (chosen and moment not in chosen.split(",")):
            return
        with struck.open("a") as file:
            file.write(moment + "\n")
        if how == "death":
            raise Died(moment)
        if not stopping:  # a second one, on a busy machine a second later, would end it at once
            os.kill(os.getpid(), signal.Signals[how])
        stopping.append(moment)

    def before(owner: Any, name: str, moment: Callable[..., str | None]) -> None:
        plain = getattr(owner, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            if found := moment(*args):
                come(found)
            return plain(*args, **kwargs)

        put(owner, name, method)

    def mine(trainer: Any, moment: str) -> str | None:
        return moment if str(trainer.global_rank) == rank else None

    before(StopOnSignal, "on_train_start", lambda *_: stopping.clear())
    before(SeedSteps, "on_train_batch_start", lambda _, t, m, batch, i: mine(t, f"batch {t.current_epoch} {i}"))
    before(TrainingModule, "validation_step",
           lambda m, batch, i: mine(m.trainer, f"validation {m.global_step} {i}"))  # fmt: skip
    before(TrainingModule, "on_validation_epoch_end", lambda m: mine(m.trainer, f"validated {m.global_step}"))
    before(KeepModel, "_write", lambda _, t, m, weights: mine(t, f"keep {t.global_step}"))
    before(LogSteps, "on_train_epoch_end", lambda _, t, m: mine(t, f"epoch {t.current_epoch}"))
    plain = torch.save

    def save(what: Any, file: Any, **options: Any) -> None:
        """A checkpoint is written half, then whole; objects for another process are only written."""
        if isinstance(what, dict) and "global_step" in what:
            file.write(b"half")
            come(f"write {what['global_step']}")
            file.seek(0)
        plain(what, file, **options)

    put(torch, "save", save)
    return moments
