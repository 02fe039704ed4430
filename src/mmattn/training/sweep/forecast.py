"""--dry-run of a sweep: its runs, their sizes, and the time they take. Each model is built once and timed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmattn.config.compose import Composer, Config, build
from mmattn.data.manifest.rows import SPLITS
from mmattn.errors import MmattnError, first_line
from mmattn.model import PARTS
from mmattn.text import clock, counted
from mmattn.training.sweep.points import Point
from mmattn.training.sweep.work import Work

STEPS = 3  # timed, after a warm-up step
EVALUATED = 2.5  # cost of evaluating a batch, in forward passes, about (docs/weighting.md)
SAME = ("batch_size", "clip", "source", "root", "clips")  # keys of data that a step's time depends on


@dataclass(frozen=True)
class _Kind:
    """Runs of equal size and time. `seconds`: training, validations and the evaluation."""

    parameters: int
    seconds: float


def forecast(points: Sequence[Point], composer: Composer, evaluate: str | None) -> str:
    """A line for each run with parameters, time and state, and the total time of unfinished runs on this machine."""
    kinds: dict[str, _Kind | str] = {}
    lines, seconds, todo, broken = [f"{'parameters':>12}  {'time':>9}  run"], 0.0, 0, 0
    with Work(evaluate) as work:
        for point in points:
            config = composer.compose(point.overrides)
            key = size_key(config)
            if key not in kinds:
                kinds[key] = _timed(config, work)
            kind, done = kinds[key], point.is_done(evaluate)
            if isinstance(kind, str):
                broken += not done
                lines.append(f"{'-':>12}  {'-':>9}  {point.run} (will fail: {kind})")
                continue
            state = " (done)" if done else " (begun)" if point.begun else ""
            lines.append(f"{kind.parameters:>12,}  {clock(kind.seconds):>9}  {point.run}{state}")
            todo, seconds = todo + (not done), seconds + (0 if done else kind.seconds)
    known = sum(isinstance(kind, _Kind) for kind in kinds.values())
    lines.append(
        f"{counted(todo, 'run')} to do, about {clock(seconds)} on this machine, one after the other ({STEPS} steps "
        f"timed of each of {counted(known, 'model')})" + (f"; {broken} cannot be built" if broken else "")
    )
    return "\n".join(lines)


def size_key(config: Config) -> str:
    """Equal for runs of the same size and duration."""
    parts = {name: config.get(name) for name in (*PARTS, "trainer")}
    return json.dumps([parts, {name: config["data"].get(name) for name in SAME}], default=str)


def _timed(config: Config, work: Work) -> _Kind | str:
    """Build and time a run's model; returns why not where it cannot be built."""
    from mmattn.data.features.source import with_frozen_encoders
    from mmattn.model import build_model, tokenizer_of, vocabulary_of, with_frames

    try:
        config = with_frozen_encoders(config)
        visual = build(config["visual"])
        config = with_frames(config, visual)
        data = work.data(config)
        model = build_model(config, vocabulary_of(config, data), tokenizer_of(config, data), {"visual": visual})
        batch = next(iter(data.loader(data.dataset("val", vocabulary=vocabulary_of(config, data)), train=False)))
    except MmattnError as error:
        return str(error)
    threads = torch.get_num_threads()
    torch.set_num_threads(config["trainer"]["threads"] or threads)
    try:
        step, forward = _step_times(model, batch)
    except (RuntimeError, ValueError) as error:
        return first_line(error)
    finally:
        torch.set_num_threads(threads)
    size, options = config["data"]["batch_size"], config["trainer"]
    batches = {split: -(-len(data.rows[split]) // size) for split in SPLITS}
    validations = -(-options["epochs"] // options["validate_every"])
    evaluated = validations * batches["val"] + (batches[work.evaluate] if work.evaluate else 0)
    return _Kind(
        sum(weight.numel() for weight in model.parameters()),
        options["epochs"] * batches["train"] * step + EVALUATED * forward * evaluated,
    )


def _step_times(model: Any, batch: Any) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and of a forward pass; the fastest of a few."""
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
