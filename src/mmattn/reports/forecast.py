"""How long the runs of a plan will take, and which of them cannot be built: each model once, timed for a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mmattn.config import Config, build, compose
from mmattn.data.manifest.rows import SPLITS
from mmattn.data.manifest.splits import SplitData
from mmattn.errors import MmattnError, UsageError
from mmattn.reports.fairness import clock
from mmattn.reports.plan import Cell
from mmattn.text import counted

STEPS = 3  # timed, after one that is not
EVALUATED = 2.5  # forward passes that an evaluation of a batch takes, about (docs/weighting.md)


def that_fit(cells: Sequence[Cell], data_of: Callable[[Config], SplitData], say: Callable[[str], None]) -> list[Cell]:
    """The cells that can be built, with a word on the others and on how long it will take.

    Of the cells that differ only in their seed one is built and timed for a few steps.
    """
    seconds, fit, seen = 0.0, [], {}
    for cell in cells:
        kind = tuple(one for one in cell.overrides if not one.startswith(("seed=", "run=")))
        if kind not in seen:
            seen[kind] = _timed(cell, data_of)
            if isinstance(seen[kind], str):
                say(f"{' '.join(kind[-2:])}: left out: {seen[kind]}")
        took = seen[kind]
        if not isinstance(took, str):
            seconds += took
            fit.append(cell)
    if not fit:
        raise UsageError("none of the runs can be built; the reasons are above")
    known = sum(not isinstance(took, str) for took in seen.values())
    say(
        f"{counted(len(fit), 'run')} to do, about {clock(seconds)} on this machine "
        f"({STEPS} steps timed of each of {counted(known, 'model')})"
    )
    return fit


def _timed(cell: Cell, data_of: Callable[[Config], SplitData]) -> float | str:
    """Seconds that the cell will take, or why it cannot be built."""
    from mmattn.data.features.read import with_frozen_encoders
    from mmattn.model import build_model, tokenizer_of, vocabulary_of, with_frames

    try:
        config = with_frozen_encoders(compose("train", cell.overrides))
        visual = build(config["visual"])
        config = with_frames(config, visual)
        data = data_of(config)
        model = build_model(config, vocabulary_of(config, data), tokenizer_of(config, data), {"visual": visual})
        batch = next(iter(data.loader(data.dataset("val", vocabulary=vocabulary_of(config, data)), train=False)))
    except MmattnError as error:
        return str(error)
    threads = torch.get_num_threads()
    torch.set_num_threads(config["trainer"]["threads"] or threads)
    try:
        step, forward = _step_times(model, batch)
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    finally:
        torch.set_num_threads(threads)
    size, options = config["data"]["batch_size"], config["trainer"]
    batches = {split: -(-len(data.rows[split]) // size) for split in SPLITS}
    validations = -(-options["epochs"] // options["validate_every"])
    evaluated = EVALUATED * forward * (validations * batches["val"] + batches[cell.split])
    return options["epochs"] * batches["train"] * step + evaluated


def _step_times(model: Any, batch: Any) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and of a forward pass: the quickest of a few."""
    steps, forwards = [], []
    for _ in range(STEPS + 1):
        started = time.monotonic()
        fused = model.fuse(*model.encode(batch))
        values = [stream.values.square().mean() for stream in (fused.video, fused.audio)]
        forwards.append(time.monotonic() - started)
        torch.stack(values).sum().backward()
        steps.append(time.monotonic() - started)
        model.zero_grad()
    return min(steps[1:]), min(forwards[1:])
