"""What reading clips costs, beside the readers people use: `python scripts/benchmarks/decode.py [CONTENT] [ROUNDS]`

8 and 16 frames at 224 x 224 from the whole of a video with all of its sound at 16 kHz mono, and clips of 2 s at random
places of a long video, 16 frames and their sound. One thread each, the same files, taking turns; the median of the
rounds of the process's CPU time (and its children's) and of the time on the clock. CONTENT is a folder of real videos
that the files are made of (default: those of iscc-samples), see decode_files.py; they are kept in a cache beside the
system's temporary files. OpenCV and decord read no sound here, which is to their advantage.

First every reader's frames are compared with those of mmattn: is each nearer to the frame shown than to its
neighbours, and how far do the pixels differ (scaling and colour conversion are each reader's own)?
"""

from __future__ import annotations

import os
import platform
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import decode_peers as peers
import iscc_samples
import numpy as np
import torch
from decode_files import Video, make_videos

CACHE = Path(tempfile.gettempdir()) / "mmattn_decode_benchmark"
ROUNDS, PLACES, PATIENCE_S = 3, 10, 8.0  # readers slower than PATIENCE_S are not asked again
CLIP_S, CLIP_FRAMES = 2.0, 16
_MOVED = 0.5  # of 255, mean over the pixels: frames further apart than this can be told apart


class Cost(NamedTuple):
    cpu: float  # s
    wall: float


class Task(NamedTuple):
    """Clips of one video: the seconds to look at and the span of sound of each."""

    name: str
    video: Video
    clips: list[tuple[list[float], peers.Span]]


def tasks(videos: list[Video]) -> list[Task]:
    whole = [
        Task(f"{count} frames of {video.name}", video, [(grid(0.0, video.seconds, count), None)])
        for video in videos
        for count in (8, 16)
    ]
    places = []
    for video in videos:
        if video.seconds == max(other.seconds for other in videos):
            rng = random.Random(0)
            starts = [rng.uniform(0, video.seconds - CLIP_S - 1) for _ in range(PLACES)]
            clips: list[tuple[list[float], peers.Span]] = [
                (grid(start, start + CLIP_S, CLIP_FRAMES), (start, start + CLIP_S)) for start in starts
            ]
            places.append(Task(f"2 s anywhere in {video.name}", video, clips))
    return whole + places


def grid(start: float, end: float, count: int) -> list[float]:
    return [start + (k + 0.5) * (end - start) / count for k in range(count)]


def run(read: peers.Read, task: Task) -> Cost:
    """One round, for one clip."""
    cpu, wall = _cpu(), time.perf_counter()
    for times, span in task.clips:
        read(task.video.path, times, span)
    return Cost((_cpu() - cpu) / len(task.clips), (time.perf_counter() - wall) / len(task.clips))


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(readers: dict[str, peers.Read], task: Task, rounds: int) -> dict[str, Cost]:
    costs: dict[str, list[Cost]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            if not costs[name] or costs[name][0].wall * len(task.clips) < PATIENCE_S:
                costs[name].append(run(read, task))
    return {name: Cost(median(c.cpu for c in all_), median(c.wall for c in all_)) for name, all_ in costs.items()}


def agreement(readers: dict[str, peers.Read], task: Task) -> dict[str, tuple[int, int, float]]:
    """Reader -> frames nearest to the right one, of how many that differ from their neighbours, mean difference."""
    step = 1 / peers.FPS
    told: dict[str, tuple[int, int, float]] = dict.fromkeys(readers, (0, 0, 0.0))
    for times, span in task.clips[:2]:
        around = [_frames(peers.ours, task, [time + shift for time in times], span) for shift in (-step, 0.0, step)]
        moved = [np.abs(around[k] - around[1]).mean((1, 2, 3)) > _MOVED for k in (0, 2)]
        distinct = moved[0] & moved[1]
        for name, read in readers.items():
            if name == "ffmpeg select" and span is not None:
                continue  # it decodes all that comes before
            frames = _frames(read, task, times, span)
            apart = np.stack([np.abs(frames - other).mean((1, 2, 3)) for other in around])
            right, seen, mean = told[name]
            near = (apart.argmin(0) == 1) & distinct
            told[name] = (right + int(near.sum()), seen + int(distinct.sum()), max(mean, float(apart[1].mean())))
    return told


def _frames(read: peers.Read, task: Task, times: list[float], span: peers.Span) -> np.ndarray:
    return read(task.video.path, times, span)[0].astype(np.float32)


def table(title: str, names: list[str], rows: list[tuple[str, dict[str, Cost]]], of: Callable[[Cost], float]) -> str:
    lines = [f"| {title} | " + " | ".join(names) + " | |", "|---" * (len(names) + 2) + "|"]
    for label, costs in rows:
        best = min(of(costs[name]) for name in names if name != "mmattn")
        cells = [f"{of(costs[name]) * 1e3:.0f}" for name in names]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {best / of(costs['mmattn']):.2f} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    content = sorted(Path(sys.argv[1]).iterdir()) if len(sys.argv) > 1 else _samples()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    videos = make_videos(content, CACHE)
    readers = peers.readers()
    print(f"{os.cpu_count()} cores, {platform.machine()}; " + "; ".join(peers.versions()), flush=True)
    every = tasks(videos)
    print("\n| frames nearest to the one shown; mean difference of pixels | right | |\n|---|---|---|")
    checked = [task for task in every if task.video.seconds == 10 or len(task.clips) > 1]
    total: dict[str, tuple[int, int, float]] = dict.fromkeys(readers, (0, 0, 0.0))
    for task in checked:
        for name, (right, seen, mean) in agreement(readers, task).items():
            old = total[name]
            total[name] = (old[0] + right, old[1] + seen, max(old[2], mean))
    for name, (right, seen, mean) in total.items():
        print(f"| {name} | {right} of {seen} | {mean:.1f} of 255 |", flush=True)
    rows = []
    for task in every:
        rows.append((task.name, measure(readers, task, rounds)))
        print(task.name, {n: round(c.cpu * 1e3) for n, c in rows[-1][1].items()}, file=sys.stderr, flush=True)
    for title, of in (("CPU, ms", lambda cost: cost.cpu), ("on the clock, ms", lambda cost: cost.wall)):
        print("\n" + table(title, list(readers), rows, of), flush=True)


def _samples() -> list[Path]:
    return [Path(path) for path in iscc_samples.videos() if Path(path).suffix in (".mp4", ".mkv", ".mov")]


if __name__ == "__main__":
    main()
