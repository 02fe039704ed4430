"""How the attention benchmarks measure: inputs, mechanisms, times and memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mmattn.attention.interface import Attention, Geometry
from mmattn.config.compose import build, read_choice

HEADS, DIM, RATE = 2, 32, 200.0
SECONDS = 3.0  # of measuring a case at one length; a slow case runs once
MASS = frozenset({"mass"})
Case = Callable[[], Tensor]


class Inputs:
    """q, k, v and geometries of one length on one device."""

    def __init__(self, length: int, device: str, segments: int = 2) -> None:
        generator = torch.Generator().manual_seed(0)
        self.qkv = [
            torch.randn(1, length, HEADS * DIM, generator=generator)
            .to(device)
            .unflatten(2, (HEADS, DIM))
            .transpose(1, 2)
            .requires_grad_()
            for _ in range(3)
        ]
        each = length // segments
        part = (torch.arange(each) * (segments / RATE)).repeat(segments)[None].to(device)
        names = ("video", "audio")[:segments]
        self.geometry = Geometry(None, part, tuple((name, each) for name in names))

    def case(self, attention: Attention, stats: frozenset[str] = frozenset()) -> Case:
        return lambda: attention(*self.qkv, self.geometry, self.geometry, stats).out


def make(name: str, device: str, **settings: object) -> Attention:
    """From conf/attention, with some settings changed; `__` stands for the dot."""
    torch.manual_seed(0)
    spec = OmegaConf.merge(
        OmegaConf.create(read_choice("attention", name)),
        OmegaConf.from_dotlist([f"{key.replace('__', '.')}={value}" for key, value in settings.items()]),
    )
    return build(OmegaConf.to_container(spec))(HEADS, DIM).to(device)


def forward(case: Case) -> None:
    with torch.no_grad():
        case()


def both(case: Case) -> None:
    case().sum().backward()


def seconds_of(run: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def times_of(cases: dict[str, Case], device: str, mode: Callable[[Case], None]) -> dict[str, float]:
    """Median seconds of each, the cases taking turns; the first turn warms up unless a case takes long."""
    found: dict[str, list[float]] = {}
    for name, case in cases.items():
        try:
            first = seconds_of(lambda case=case: mode(case), device)
        except (RuntimeError, ValueError, MemoryError) as error:
            print(f"{name}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
            continue
        found[name] = [first] if first > SECONDS else []
    for turn in range(9):
        for name, measured in found.items():
            if not measured or (measured[0] <= SECONDS and (turn < 3 or sum(measured) < SECONDS)):
                measured.append(seconds_of(lambda name=name: mode(cases[name]), device))
    return {name: median(measured) for name, measured in found.items()}


def memory_of(case: Case, device: str) -> float:
    """MiB that a forward and backward needs at its peak beside its inputs."""
    if device != "cpu":
        both(case)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both(case)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    reads, writes = os.pipe()
    if os.fork() == 0:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            both(case)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(writes, str(grown / 1024).encode())
        finally:
            os._exit(0)
    os.close(writes)
    os.wait()
    with os.fdopen(reads) as pipe:
        return float(pipe.read() or "nan")


def table(header: Iterable[object], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    cells = [str(cell) for cell in header]
    lines = [cells, ["---"] * len(cells), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
