"""Steps of a whole model on a device: evaluation, autocast, compiled, and distributed over one process.

Each row says what was compared with what, how far it was off, and what it cost. The comparison is with a plain step in
float32 on the same device, and of the evaluation with one on the processor.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from attention_cases import seconds_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmattn.config.compose import compose
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.model import AVModel, build_model
from mmattn.types import Batch
from mmattn.weighting.evaluation import Evaluation

TAGS = 8
LIMITS = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}  # of a gradient's norm
HEADER = ["step", "of", "off by", "allowed", "ms", "ms plain", "waits"]


class Steps(nn.Module):
    """A model as what a training calls: from a batch to its loss."""

    def __init__(self, model: AVModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack(list(self.model.losses(self.model.fuse(*self.model.encode(batch)), batch).values())).sum()


def model_of(attention: str, small: bool) -> AVModel:
    torch.manual_seed(0)
    sizes = ["dim=16", "heads=2", "data.clip.mels=12", "data.clip.height=16", "data.clip.width=16"] if small else []
    config = compose("train", ["fusion=cross", f"attention={attention}", "dropout=0", *sizes])
    return build_model(config, TagVocabulary(tuple(f"tag{i}" for i in range(TAGS))))


def batch_of(model: AVModel, small: bool, clips: int) -> Batch:
    """Random clips, the last with half of its frames and the first without sound."""
    seconds, side, mels = (1, 16, 12) if small else (10, 96, 64)
    frames, rows = 8 * seconds, 100 * seconds
    frame_keep, row_keep = torch.ones(clips, frames, dtype=torch.bool), torch.ones(clips, rows, dtype=torch.bool)
    frame_keep[-1, frames // 2 :], row_keep[0] = False, False
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(0, 256, (clips, frames, 3, side, side), generator=generator, dtype=torch.uint8),
        frame_keep, (torch.arange(frames) / 8).expand(clips, -1).clone(),
        torch.randn(clips, rows, mels, generator=generator),
        row_keep, (torch.arange(rows) / 100).expand(clips, -1).clone(),
        tuple(f"clip{i}" for i in range(clips)),
        {"tags": (torch.rand(clips, TAGS, generator=generator) < 0.3).float()},
    )  # fmt: skip


def steps(device: str, small: bool, attentions: list[str]) -> list[list[str]]:
    return [row for attention in attentions for row in _steps_of(attention, device, small)]


def _steps_of(attention: str, device: str, small: bool) -> Iterator[list[str]]:
    model = model_of(attention, small).to(device).train()
    here = batch_of(model, small, 3 if small else 16)
    batch, plain, compiled = here.to(device), Steps(model), Steps(copy.deepcopy(model))
    exact = gradient(plain, batch)
    base = spent(lambda: gradient(plain, batch), device)
    compiled.model.fusion.compile(fullgraph=True, backend="inductor" if device == "cuda" else "aot_eager")
    with one_process(device):
        shared = DistributedDataParallel(Steps(copy.deepcopy(model)))
        cases: list[tuple[str, torch.dtype, Callable[[], Tensor]]] = [
            ("autocast, bfloat16", torch.bfloat16, lambda: gradient(plain, batch, torch.bfloat16)),
            ("compiled fusion, one graph", torch.float32, lambda: gradient(compiled, batch)),
            ("DistributedDataParallel", torch.float32, lambda: gradient(shared, batch)),
        ]
        if device == "cuda":
            cases.insert(1, ("autocast, float16", torch.float16, lambda: gradient(plain, batch, torch.float16)))
        for name, dtype, case in cases:
            try:
                off = float((case() - exact).norm() / exact.norm())
                yield _row(name, attention, off, LIMITS[dtype], spent(case, device), base, waits(case, device))
            except Exception as error:  # the table says what failed, and the session goes on
                first = str(error).strip().splitlines()[0][:80]
                yield [name, attention, f"**{type(error).__name__}: {first}**", *[""] * (len(HEADER) - 3)]
    yield evaluated(model, here, device, attention)
    torch._dynamo.reset()


def gradient(step: nn.Module, batch: Batch, dtype: torch.dtype | None = None) -> Tensor:
    """Of all weights, in one vector."""
    step.zero_grad(set_to_none=True)
    with torch.autocast(batch.frames.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        loss = step(batch)
    loss.backward()
    return torch.cat([weight.grad.detach().flatten() for weight in step.parameters() if weight.grad is not None])


def evaluated(model: AVModel, here: Batch, device: str, attention: str) -> list[str]:
    """Scores of all subsets of modalities, on the device and on the processor."""
    found = []
    for where in ("cpu", device):
        evaluation, there = Evaluation(model.task.vocabulary), copy.deepcopy(model).to(where).eval()
        batch = here.to(where)
        evaluation.update(there, batch)
        scores = torch.stack(list(evaluation.clip_scores().scores.values()))
        found.append((scores, lambda e=evaluation, m=there, b=batch: e.update(m, b)))
    (exact, plain), (scores, case) = found
    off = float((scores - exact).abs().max())
    return _row("evaluation", attention, off, LIMITS[torch.float32], spent(case, device), spent(plain, "cpu"),
               waits(case, device))  # fmt: skip


def _row(name: str, attention: str, off: float, limit: float, ms: float, plain: float, waiting: str) -> list[str]:
    cells = [name, attention, f"{off:.1e}" if off <= limit else f"**{off:.1e}**", f"{limit:g}"]
    return [*cells, f"{1000 * ms:.3g}", f"{1000 * plain:.3g}", waiting]


def spent(case: Callable[[], object], device: str) -> float:
    case()
    return min(seconds_of(lambda: _run(case), device) for _ in range(3))


def _run(case: Callable[[], object]) -> None:
    case()


def waits(case: Callable[[], object], device: str) -> str:
    """How often the processor waits for the device in it, as PyTorch's own debug mode counts; - on a processor."""
    if device != "cuda":
        return "-"
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            case()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return str(sum("synchronizing CUDA" in str(one.message) for one in seen))


@contextmanager
def one_process(device: str) -> Iterator[None]:
    """A process group of this process alone."""
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
