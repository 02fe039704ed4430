"""Decode thousands of mixed files and watch the memory and the open files: both have to stay level.

    python scripts/benchmarks/leak.py [FOLDER ...] [--decodes 10000] [--isolated]

Reads generated clips, damaged copies of them, the files of iscc-samples and those of each FOLDER, in a shuffled order
that repeats; a fourth of the decodes is a probe, a fourth begins in the middle. Exit code 1 if, after the first
quarter, the resident memory leaves +-5 % of its mean or a descriptor more is open. `--isolated` watches the worker too.
"in use" is what glibc's heap has given out and not got back: a leak grows there, a fragmented heap only in resident.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import iscc_samples
import numpy as np

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.survey.probe import probe
from mmattn.media.write.video import write_video

SIZE = (64, 64)
POINTS = 20  # figures printed


def made(folder: Path) -> list[Path]:
    """Two clips in four containers, and each cut off and with noise in its middle."""
    rng = np.random.default_rng(0)
    for suffix, codec in ((".mp4", "aac"), (".mkv", "flac"), (".mov", "pcm_s16le"), (".webm", "libopus")):
        for height in (48, 96):
            frames = rng.integers(0, 256, (20, height // 8, height // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
            sound = rng.uniform(-0.5, 0.5, 48000 * 2).astype(np.float32)
            path = folder / f"{height}{suffix}"
            video_codec = "libvpx" if suffix == ".webm" else "libx264"
            write_video(path, frames, 10, sound, 48000, video_codec=video_codec, audio_codec=codec)
            data = path.read_bytes()
            (folder / f"cut{height}{suffix}").write_bytes(data[: len(data) * 2 // 3])
            middle = len(data) // 2
            (folder / f"noise{height}{suffix}").write_bytes(data[:middle] + rng.bytes(500) + data[middle + 500 :])
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    return sorted(folder.iterdir())


def resident(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2 (2.33 and later)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def in_use() -> float | None:
    """MB of this process's heap, large blocks included; None without glibc 2.33."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return None
    ask.restype = MallInfo
    info = ask()
    return (info.uordblks + info.hblkhd) / 1e6


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def level(name: str, values: list[float]) -> bool:
    """Print how far the values after the first quarter lie from their mean; whether it is within 5 %."""
    settled = values[len(values) // 4 :]
    mean = sum(settled) / len(settled)
    low, high = min(settled) / mean - 1, max(settled) / mean - 1
    print(f"{name}: mean {mean:.1f} MB, {100 * low:+.2f} % to {100 * high:+.2f} %")
    return low > -0.05 and high < 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--decodes", type=int, default=10_000)
    parser.add_argument("--isolated", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, IsolatedReader(deadline_s=20) as reader:
        files = made(Path(folder)) + [Path(path) for path in iscc_samples.videos() + iscc_samples.audios()]
        files += sorted(path for folder in options.folders for path in folder.rglob("*") if path.is_file())
        print(f"{len(files)} files, {options.decodes} decodes, {'isolated' if options.isolated else 'in process'}")
        return watch(files, options.decodes, reader if options.isolated else None)


def watch(files: list[Path], decodes: int, reader: IsolatedReader | None) -> int:
    rng, outcomes, crashes = random.Random(0), Counter(), 0
    owner: list[float] = []
    worker: list[float] = []
    heap: list[float] = []
    opened: list[int] = []
    started, order = time.perf_counter(), list(files)
    for k in range(decodes):
        if k % len(files) == 0:
            rng.shuffle(order)
        path, start = order[k % len(files)], 1.0 if k % 4 == 1 else 0.0
        try:
            if reader is not None:
                reader.read(path, Request(frames=4, start=start, end=start + 2.0, size=SIZE))
            elif k % 4 == 3:
                probe(path, follow_symlinks=True)
            else:
                read_clip(path, frames=4, start=start, end=start + 2.0, size=SIZE, deadline_s=20)
            outcomes["read"] += 1
        except MediaError as error:
            outcomes[error.reason] += 1
            crashes += error.reason in ("crashed", "timeout")
        if (k + 1) % len(files) == 0 or k + 1 == decodes:  # after each round over all files
            gc.collect()
            owner.append(resident(os.getpid()))
            opened.append(descriptors(os.getpid()))
            if reader is None and (given := in_use()) is not None:
                heap.append(given)
            if reader is not None:
                worker.append(resident(reader.worker_pid))
                opened[-1] += descriptors(reader.worker_pid)
            if len(owner) % max(1, decodes // len(files) // POINTS) == 0:
                inside = f", worker {worker[-1]:.1f}" if worker else f", {heap[-1]:.1f} in use" if heap else ""
                print(
                    f"{k + 1:6d}: {owner[-1]:.1f} MB{inside}, {opened[-1]} open, {time.perf_counter() - started:.0f} s"
                )
                sys.stdout.flush()
    print(dict(outcomes))
    good = [level("resident", owner)] + ([level("worker", worker)] if worker else [])
    good += [level("in use", heap)] if heap else []
    settled = opened[len(opened) // 4 :]
    print(f"open descriptors: {min(settled)} to {max(settled)}")
    return 0 if all(good) and min(settled) == max(settled) else 1


if __name__ == "__main__":
    sys.exit(main())
