"""What predict costs beside its parts, and whether its memory grows: `python scripts/benchmarks/throughput.py RUN DIR`

RUN: a trained model; DIR: a folder of media. In turns, on the same files: decoding alone (isolated), the model alone
(on what was decoded), and both as a worker of predict does it, journal included. Processor time of all processes, one
file after the first to the last, medians; and time on the clock.

`... throughput.py memory RUN [FILES]` (default 10,000): `mmattn predict` over so many small sounds; memory of the
driver, its worker and the decoding processes on the way.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmattn.checkpoint import load_model
from mmattn.config import compose
from mmattn.data.reading import ClipReader
from mmattn.inference.answer import answering
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.jobs.shard import answer_shard
from mmattn.inference.pipeline import Predictor
from mmattn.media.write import write_video

ROUNDS, BATCH = 5, 16


def spent() -> float:
    """Processor time of this process and of those that ended, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(work: Callable[[int], None], count: int) -> tuple[float, float]:
    """Processor time and time on the clock for each file beyond the first."""
    figures = []
    for files in (1, count):
        cpu, clock = spent(), time.perf_counter()
        work(files)
        figures.append((spent() - cpu, time.perf_counter() - clock))
    (cpu_1, clock_1), (cpu_n, clock_n) = figures
    return (cpu_n - cpu_1) / (count - 1), (clock_n - clock_1) / (count - 1)


def compare(run: str, source: str) -> None:
    torch.set_num_threads(1)
    entries = list_source(source).entries
    predictor = Predictor(load_model(Path(run)), batch_size=BATCH)

    def decode(count: int) -> None:
        reader = ClipReader(threads=1)
        for entry in entries[:count]:
            predictor.clip.read(entry.media, reader=reader)
        reader.close()

    here = ClipReader(isolated=False, threads=1)
    predictor.reader = here
    read = [predictor._read(entry.piece) for entry in entries]
    spans = [views for file in read for views in getattr(file, "samples", [])]

    def model(count: int) -> None:
        """The spans that so many files have, one after another."""
        for _ in predictor._say(spans[: max(1, round(count * len(spans) / len(entries)))]):
            pass

    def both(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            job = Job(Path(folder))
            job.add(entries[:count], count)
            job.write_settings(compose("predict", [f"run={run}", f"source={source}", f"batch_size={BATCH}"]))
            with answering(job, 1, "cpu") as ready:
                answer_shard(job, 0, ready, lambda message: None)

    parts = {"decoding alone": decode, "the model alone": model, "predict": both}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(ROUNDS):
        for name, work in parts.items():
            figures[name].append(timed(work, len(entries)))
    for name, found in figures.items():
        cpu, clock = (1e3 * statistics.median(each) for each in zip(*found, strict=True))
        print(f"{name:16s} {cpu:7.2f} ms of processor time, {clock:7.2f} ms on the clock a file")
    rounds = list(zip(*([cpu for cpu, _ in found] for found in figures.values()), strict=True))
    slower = statistics.median(max(d, m) / p for d, m, p in rounds)
    together = statistics.median((d + m) / p for d, m, p in rounds)
    print(f"{len(entries)} files, {len(spans)} spans: predict reaches {slower:.2f} of the slower part's throughput, ")
    print(f"{together:.2f} of what both parts leave possible on the same cores")


def memory(run: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, tone = Path(name), 0.3 * np.sin(np.arange(8000, dtype=np.float32) / 5)
        (folder / "in").mkdir()
        write_video(folder / "tone.m4a", None, 12, tone)
        for i in range(count):
            os.link(folder / "tone.m4a", folder / "in" / f"{i:06d}.m4a")
        asked = [
            f"run={run}",
            f"source={folder / 'in'}",
            f"out={folder / 'out.jsonl'}",
            "engine.workers=1",
            "decoders=1",
        ]
        driver = subprocess.Popen([sys.executable, "-m", "mmattn", "predict", *asked, "device=cpu"])
        job, marks = (
            Job(folder / "out.jsonl.job"),
            iter(sorted({count // 10, count // 5, count // 2, count * 99 // 100})),
        )
        mark = next(marks)
        while driver.poll() is None:
            time.sleep(0.2)
            done = 256 * len(job.done_shards()) + sum(map(job.done_count, job.begun_shards()))
            if mark is not None and done >= mark:
                sizes = ", ".join(f"{megabytes:.0f}" for megabytes in tree(driver.pid))
                print(f"{done:6d} files: resident MB of driver, worker, decoders: {sizes}", flush=True)
                mark = next(marks, None)


def tree(pid: int) -> list[float]:
    """Resident memory of a process and all below it, MB, the process itself first."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    below = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    children = itertools.chain.from_iterable(path.read_text().split() for path in below)
    return [pages * resource.getpagesize() / 1e6, *(size for child in children for size in tree(int(child)))]


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        memory(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10_000)
    else:
        compare(sys.argv[1], sys.argv[2])
