"""What a run's model costs to use: operations, time and memory for one clip, measured here and kept beside the run.

Measured on the CPU with one thread, and on a GPU where there is one, with one clip of random pixels and noise, whatever
the model was trained on. Only figures from one machine can be compared, so each names its machine.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.checkpoint import load_model
from mmattn.data.load.dataset import stack_samples
from mmattn.errors import MmattnError
from mmattn.files import MODEL_FILE, write_atomically
from mmattn.model import AVModel
from mmattn.reports.collect.counting import count
from mmattn.reports.collect.timing import OnGpu, Timed, timed, timed_on_gpu
from mmattn.text import counted
from mmattn.training.directory.machine import describe_machine
from mmattn.types import Batch, Clip

COST_FILE = "cost.json"
LENGTHS = (1, 2, 4)  # of the clip, as multiples of what the model was trained on


@dataclass(frozen=True)
class Length:
    """The cost of a clip of `seconds`."""

    seconds: float
    flops: int  # of matrix products, convolutions and attention; a multiply-add is two
    peak_bytes: int  # of the tensors that were alive at once, without weights and what kernels use inside


@dataclass(frozen=True)
class Cost:
    """`time`: CPU time of a forward pass. `lengths`: the first is that of the trained clip. `gpu`: None without one."""

    time: Timed
    lengths: tuple[Length, ...]
    machine: str
    weights_file: str  # size and time of the model that was measured
    gpu: OnGpu | None = None

    @property
    def flops(self) -> int:
        """Floating point operations for one clip of the trained length."""
        return self.lengths[0].flops

    @property
    def peak_bytes(self) -> int:
        """Peak memory for one clip of the trained length."""
        return self.lengths[0].peak_bytes


def read_cost(run: Path) -> Cost | None:
    """What was measured before for the model that is there now; None otherwise."""
    try:
        node = json.loads((run / COST_FILE).read_text(encoding="utf-8"))
        lengths = tuple(Length(float(e["seconds"]), int(e["flops"]), int(e["peak_bytes"])) for e in node["lengths"])
        gpu = (of := node["gpu"]) and OnGpu(str(of["gpu"]), _timed(of["time"]), int(of["peak_bytes"]))
        cost = Cost(_timed(node["time"]), lengths, str(node["machine"]), str(node["weights_file"]), gpu)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = lengths and math.isfinite(cost.time.ms)
    return cost if whole and cost.weights_file == _weights_file(run) else None


def _timed(node: dict[str, Any]) -> Timed:
    return Timed(float(node["ms"]), float(node["low"]), float(node["high"]))


def measure_costs(
    runs: Sequence[Path], log: Callable[[str], None] = lambda _: None, again: bool = False
) -> list[Cost | str]:
    """The cost of each run, or why it has none. Those not known yet (with `again`: all) are measured in turns.

    Kept as cost.json in the run directory where that can be written.
    """
    found: list[Cost | str | None] = [None if again else read_cost(run) for run in runs]
    todo = [i for i, cost in enumerate(found) if cost is None]
    if todo:
        log(f"measuring the cost of {counted(len(todo), 'model')} on this machine")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ready: dict[int, tuple[AVModel, Batch, tuple[Length, ...]]] = {}
        for i in todo:
            try:
                ready[i] = _prepare(runs[i])
            except (MmattnError, RuntimeError, ValueError) as error:
                found[i] = str(error).splitlines()[0]
        gpus = timed_on_gpu({i: (model, batch) for i, (model, batch, _) in ready.items()})
        for i, time in timed({i: _forward(model, batch) for i, (model, batch, _) in ready.items()}).items():
            cost = Cost(time, ready[i][2], machine(), _weights_file(runs[i]), gpus.get(i))
            found[i] = cost
            _keep(runs[i], cost)
    finally:
        torch.set_num_threads(threads)
    return [cost if cost is not None else "not measured" for cost in found]


def machine() -> str:
    """The machine and the software that the figures depend on."""
    facts = describe_machine()
    gpu = f", {facts['gpu']}, driver {facts['driver']}" if "gpu" in facts else ""
    return f"{facts['host']}: {facts['processor']}{gpu}, one thread, torch {torch.__version__}"


def _prepare(run: Path) -> tuple[AVModel, Batch, tuple[Length, ...]]:
    """The run's model, one clip, and the cost at each clip length that the model takes."""
    checkpoint = load_model(run)
    model = checkpoint.model.requires_grad_(False)
    lengths, batches = [], []
    for factor in LENGTHS:
        spec = replace(checkpoint.clip, seconds=checkpoint.clip.seconds * factor)
        batch = stack_samples([spec.prepare(_noise_clip(spec))], ("cost",), spec)
        try:
            lengths.append(Length(spec.seconds, *count(lambda batch=batch: model(batch))))
            batches.append(batch)
        except (RuntimeError, ValueError, IndexError):
            if not lengths:
                raise
            break  # a model of one length only
    return model, batches[0], tuple(lengths)


def _forward(model: AVModel, batch: Batch) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        with torch.no_grad():
            return model(batch)

    return forward


def _noise_clip(spec: Any) -> Clip:
    generator = torch.Generator().manual_seed(0)
    shape = (spec.frame_count, 3, spec.height, spec.width)
    return Clip(
        frames=torch.randint(256, shape, generator=generator, dtype=torch.uint8),
        frame_times=(torch.arange(spec.frame_count, dtype=torch.float64) + 0.5) / spec.fps,
        waveform=torch.rand(spec.samples, generator=generator) * 0.2 - 0.1,
        sample_rate=spec.sample_rate,
        audio_start=0.0,
        source="noise",
        span=(0.0, spec.seconds),
    )


def _weights_file(run: Path) -> str:
    try:
        facts = (run / MODEL_FILE).stat()
    except OSError:
        return "none"
    return f"{facts.st_size} bytes, {facts.st_mtime_ns}"


def _keep(run: Path, cost: Cost) -> None:
    with contextlib.suppress(OSError):  # a run directory that is not ours: measured again next time
        write_atomically(run / COST_FILE, json.dumps(asdict(cost), indent=1).encode())
