"""What a decoding process of its own costs: IsolatedReader against read_clip, `python scripts/benchmarks/isolate.py`

Processor time of both processes together, median of rounds in which the two take turns; then the time from nothing to
the first clip, and how long after a crash the next file is read.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmattn.media import IsolatedReader, Request, read_clip
from mmattn.media.write.video import write_video

ROUNDS = 31
CASES = {
    "2 s of 48 x 48, 8 frames": ((48, 48, 50), Request(frames=8, size=(48, 48))),
    "3 s of 144 x 96, 75 frames of 112": ((96, 144, 75), Request(fps=25, size=(112, 112))),
    "3 s of 640 x 360, 8 frames of 224": ((360, 640, 75), Request(frames=8, size=(224, 224))),
    "3 s of 640 x 360, 75 frames of 224": ((360, 640, 75), Request(fps=25, size=(224, 224))),
    "3 s of 640 x 360, 75 frames as they are": ((360, 640, 75), Request(fps=25)),
}


def made(folder: Path, height: int, width: int, count: int) -> Path:
    path, rng = folder / f"{height}x{width}.mp4", np.random.default_rng(0)
    if not path.exists():
        frames = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        write_video(path, frames, 25, rng.uniform(-0.3, 0.3, count * 44100 // 25).astype(np.float32), 44100)
    return path


def spent(pid: int) -> float:
    """Processor time of a process, s."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name, IsolatedReader() as reader:
        folder = Path(name)
        for what, (shape, asked) in CASES.items():
            path = made(folder, *shape)
            arguments = {"fps": asked.fps, "frames": asked.frames, "size": asked.size}
            here, there = [], []
            for _ in range(ROUNDS):
                here.append(timed(lambda p=path, a=arguments: read_clip(p, **a), time.process_time))
                before = spent(reader.worker_pid)
                owner = timed(lambda p=path, a=asked: reader.read(p, a), time.process_time)
                there.append(owner + spent(reader.worker_pid) - before)
            ratio = statistics.median(b / a for a, b in zip(here[1:], there[1:], strict=True))
            clip = reader.read(path, asked)
            assert clip.frames is not None and clip.waveform is not None
            megabytes = clip.frames.nbytes + clip.waveform.nbytes
            print(
                f"{what:42s} {megabytes / 1e6:5.1f} MB  here {1e3 * statistics.median(here[1:]):7.2f} ms  "
                f"isolated {1e3 * statistics.median(there[1:]):7.2f} ms  ratio {ratio:.3f}"
            )
            sys.stdout.flush()
        path, starts, renewals = made(folder, *next(iter(CASES.values()))[0]), [], []
        for _ in range(5):
            with IsolatedReader() as fresh:
                starts.append(timed(lambda f=fresh: f.read(path, Request(frames=1))))
        for _ in range(15):
            os.kill(reader.worker_pid, signal.SIGSEGV)
            renewals.append(timed(lambda: reader.read(path, Request(frames=1))))
        print(f"from nothing to the first clip {statistics.median(starts):.2f} s; after a crash ", end="")
        print(f"{1e3 * statistics.median(renewals):.0f} ms to the next clip (one frame of 640 x 360)")


if __name__ == "__main__":
    main()
