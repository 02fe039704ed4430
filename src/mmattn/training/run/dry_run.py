"""--dry-run: config, parameters, tokens, operations, memory and launch of a training, without training."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmattn.config.compose import Config, build, build_optional
from mmattn.data.load.splits import SplitData
from mmattn.model import PARTS, AVModel, vocabulary_of, with_frames
from mmattn.process.memory import peak_memory
from mmattn.text import counted
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.loop.module import TrainingModule
from mmattn.training.run.check import check
from mmattn.training.run.prepare import with_devices
from mmattn.training.sharding.blocks import recompute
from mmattn.types import Batch, Tokens

SAMPLE = 2  # clips that are really run; the rest is extrapolated


@dataclass(frozen=True)
class Outlook:
    """`flops`: of a step, forward and backward, over all processes. `memory`: bytes of a process at its peak."""

    parameters: dict[str, int]
    trained: int
    tokens: dict[str, int]
    clips: int  # of a process at once
    flops: float
    memory: float


def dry_run(config: Config) -> str:
    """The report. Nothing is written, except by a generated data set that is rendered."""
    from mmattn.data.features.source import with_frozen_encoders

    config = with_frozen_encoders(with_devices(config))
    data, model = check(config)
    config = with_frames(config, model.visual)
    launcher = launcher_of(config)
    try:
        found = look_ahead(config, data, model, launcher.nodes)
    finally:
        data.close()
    run = Path(str(config["run"] or "runs/NAME"))
    parts = ", ".join(f"{name} {count:,}" for name, count in found.parameters.items())
    lines = [
        yaml.safe_dump(config, sort_keys=False).rstrip(),
        "---",
        f"parameters: {sum(found.parameters.values()):,} ({parts}), {found.trained:,} of them trained",
        f"tokens of a clip: {', '.join(f'{name} {count}' for name, count in found.tokens.items())}",
        f"clips: {found.clips} in each process, {config['data']['batch_size']} in a batch, "
        f"{counted(config['trainer']['accumulate'], 'batch')} a step",
        f"a step: {found.flops / 1e9:,.2f} GFLOP (matrix products and convolutions, forward and backward)",
        f"memory of a process: about {found.memory / 2**20:,.0f} MiB of tensors at its peak",
        f"launch: {launcher.describe(run, config)}",
    ]
    return "\n".join(lines)


def look_ahead(config: Config, data: SplitData, model: AVModel, nodes: int = 1) -> Outlook:
    """Run one and two clips on the CPU, and extrapolate: what a step keeps in memory grows with the clips."""
    options, processes = config["trainer"], config["trainer"]["devices"] * nodes
    vocabulary = vocabulary_of(config, data)
    loader = data.loader(data.dataset("train", train=True, vocabulary=vocabulary), train=True)
    loader.batch_sampler.global_batch = SAMPLE  # type: ignore[union-attr]  (it is always ours)
    batch = next(iter(loader))
    if options.get("recompute"):
        recompute(model)
    module = TrainingModule(model.train(), build(config["optim"]), None, None, build_optional(config, "multitask"))
    clips = config["data"]["batch_size"] // processes
    autocast = _autocast(options["precision"])
    with autocast, FlopCounterMode(display=False) as counter:
        module.losses(first(batch, 1))["loss"].backward()  # leaves gradients, as before every step but the first
    with torch.no_grad():
        video, audio = model.encode(first(batch, 1))
    tokens = {"video": video.keep.shape[1], "audio": audio.keep.shape[1]}
    one, two = (peak_memory(lambda n=n: _pass(module, first(batch, n), autocast)) for n in (1, SAMPLE))
    held = _bytes(model.parameters())
    learned = _bytes(weight for weight in model.parameters() if weight.requires_grad)
    share = processes if options.get("strategy") == "fsdp" else 1
    copies = learned if processes > 1 and share == 1 else 0  # DDP's buckets
    kept = (held + learned + 2 * learned) / share + copies  # weights, gradients, two moments of Adam
    return Outlook(
        parameters={
            name: sum(weight.numel() for weight in getattr(model, name).parameters())
            for name in PARTS
            if getattr(model, name) is not None
        },
        trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        tokens=tokens,
        clips=clips,
        flops=float(counter.get_total_flops()) * config["data"]["batch_size"] * options.get("accumulate", 1),
        memory=kept + one + (two - one) * (clips - 1) / (SAMPLE - 1),
    )


def first(batch: Batch, count: int) -> Batch:
    """The batch's first clips."""

    def cut(value: Any) -> Any:
        if isinstance(value, (Tensor, tuple)):
            return value[:count]
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, Tokens):
            return Tokens(value.values[:count], value.keep[:count], value.times[:count], value.full)
        return value

    return replace(batch, **{field.name: cut(getattr(batch, field.name)) for field in fields(batch) if field.init})


def _pass(module: TrainingModule, batch: Batch, autocast: AbstractContextManager) -> None:
    """A step as in Lightning, which frees the previous gradients only after the forward pass."""
    with autocast:
        loss = module.losses(batch)["loss"]
    module.zero_grad()
    loss.backward()


def _autocast(precision: str) -> AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16) if "16" in precision else nullcontext()


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
