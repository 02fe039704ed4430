"""What predict costs beside its parts, and whether its memory grows: `python scripts/benchmarks/throughput.py RUN DIR`

RUN: a trained model; DIR: a folder of media. In turns, on the same files: reading alone (isolated), the model alone (on
what was read), and both as a worker of predict does it, journal included. Medians of rounds. Twice: on the same cores,
and with decoding and the model on a core each, which takes a machine that is otherwise quiet.

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
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from mmattn.checkpoint import load_model
from mmattn.data.load.reader import ClipReader
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.jobs.shard import EntryProcessor, process_shard
from mmattn.inference.predictor.file_spans import FileSpans
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.media.write.video import write_video

ROUNDS, BATCH = 5, 16


def spent() -> float:
    """Processor time of this process and of its children, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    living = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13] for child in below("self")]
    ticks = sum(int(each) for both in living for each in both)
    return sum(each.ru_utime + each.ru_stime for each in used) + ticks / os.sysconf("SC_CLK_TCK")


def below(pid: int | str) -> list[str]:
    """Children of a process, theirs, and so on."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return [*children, *itertools.chain.from_iterable(map(below, children))]


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
    checkpoint = load_model(Path(run))
    print(f"{len(entries)} files")
    with closing(ClipReader(threads=1)) as reader:
        print("all on the same cores, where work adds up (processor time counts):")
        figures = measured(Predictor(checkpoint, batch_size=BATCH, reader=reader), entries, which=0)
        print(f"predict reaches {ratio(figures, sum):.2f} of what both parts leave possible")
    with closing(ClipReader(threads=2)) as reader:
        print("decoding on one core, the model on another, as beside a GPU (the clock counts):")
        predictor = Predictor(checkpoint, batch_size=BATCH, reader=reader)
        for _ in predictor.records(entry.piece for entry in entries[: 2 * BATCH]):
            pass
        apart()
        figures = measured(predictor, entries, which=1)
        print(f"predict reaches {ratio(figures, max):.2f} of the slower part's throughput")


def measured(predictor: Predictor, entries: list[Entry], which: int) -> list[list[float]]:
    """Seconds a file of each round: reading alone, the model alone, both as a worker of predict does it."""
    assert isinstance(predictor.reader, ClipReader)
    reader = predictor.reader
    read_spans, model_of = predictor._spans.read, predictor._runner
    files = list(reader.map(read_spans, (entry.piece for entry in entries)))
    spans = [span for file in files if isinstance(file, FileSpans) for span in file.named]

    def read(count: int) -> None:
        """Decoded and prepared for the model."""
        for _ in reader.map(read_spans, (entry.piece for entry in entries[:count])):
            pass

    def model(count: int) -> None:
        """The spans that so many files have, one after another."""
        for _ in model_of.outputs(spans[: max(1, round(count * len(spans) / len(entries)))]):
            pass

    def both(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            job = Job(Path(folder))
            job.update(entries[:count], count)
            answering = EntryProcessor(lambda some: predictor.records(entry.piece for entry in some), BATCH)
            process_shard(job, 0, answering, lambda message: None)

    parts = {"reading alone": read, "the model alone": model, "predict": both}
    rounds = [[timed(work, len(entries)) for work in parts.values()] for _ in range(ROUNDS)]
    for name, found in zip(parts, zip(*rounds, strict=True), strict=True):
        cpu, clock = (1e3 * statistics.median(each) for each in zip(*found, strict=True))
        print(f"  {name:16s} {cpu:7.2f} ms of processor time, {clock:7.2f} ms on the clock a file")
    return [[figure[which] for figure in found] for found in rounds]


def ratio(rounds: list[list[float]], of_parts: Callable[[list[float]], float]) -> float:
    return statistics.median(of_parts([read, model]) / both for read, model, both in rounds)


def apart() -> None:
    """This process with all its threads on one core, its decoding processes on another."""
    for child in below("self"):
        for thread in Path(f"/proc/{child}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), {1})


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
                sizes = ", ".join(f"{megabytes:.0f}" for megabytes in map(resident, [driver.pid, *below(driver.pid)]))
                print(f"{done:6d} files: resident MB of driver, worker, decoders: {sizes}", flush=True)
                mark = next(marks, None)


def resident(pid: int | str) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        memory(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10_000)
    else:
        compare(sys.argv[1], sys.argv[2])
