"""Hundreds of decodes leave memory and descriptors as they were (thousands: scripts/benchmarks/leak.py)."""

import gc
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from media_bytes import png, raw_mp4, remuxed
from media_clips import many_streams, movie, muxed, tone

from mmattn.errors import MediaError
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.probe import probe

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from /proc")
ROUNDS, WARM = 12, 4
ASKED = Request(frames=4, size=(64, 64))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list:
    """Ten sources: good, odd, cut off, damaged, none; by path and as bytes."""
    folder = tmp_path_factory.mktemp("mixed")
    clip = movie(folder / "a.mp4")
    damaged = bytearray(clip.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 300] = np.random.default_rng(0).bytes(300)
    (folder / "still.png").write_bytes(png(300))
    return [
        clip,
        many_streams(folder / "b.mkv", [40, 200], [(400, "und"), (800, "eng")]),
        muxed(folder / "c.wav", sounds=[(0.0, np.stack([tone(2.0, 44100)] * 6))], rate=44100, layout="5.1"),
        muxed(folder / "d.mkv", list(range(0, 800, 40)), [(0.3, tone(1.0)[None])]),
        folder / "still.png",
        remuxed(clip, "mpegts"),
        raw_mp4(),
        bytes(damaged),
        clip.read_bytes()[:3000],
        b"no media at all",
    ]


def state(pid: int) -> tuple[float, int]:
    """Resident memory in MB, open descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def demand_level(states: list[tuple[float, int]]) -> None:
    megabytes, opened = zip(*states[WARM:], strict=True)
    assert len(set(opened)) == 1
    half = len(megabytes) // 2  # memory given back for a while is no leak, so highs are compared with highs
    assert max(megabytes[half:]) - max(megabytes[:half]) < 6, [round(value) for value in megabytes]


def test_reading_in_process(mixed: list):
    states = []
    for _ in range(ROUNDS):
        for source in mixed:
            with suppress(MediaError):
                read_clip(source, frames=4, size=(64, 64))
            with suppress(MediaError):
                probe(source)
            with suppress(MediaError):
                list(islice(iter_windows(source, 0.2, fps=5), 2))
        gc.collect()
        states.append(state(os.getpid()))
    demand_level(states)


def test_reading_isolated(mixed: list):
    here, there = [], []
    with IsolatedReader(deadline_s=20) as reader:
        for _ in range(ROUNDS):
            for source in mixed:
                with suppress(MediaError):
                    reader.read(source, ASKED)
            with suppress(MediaError):
                list(reader.windows(mixed[0], Windows(0.5, 0.5, ASKED)))
            gc.collect()
            here.append(state(os.getpid()))
            there.append(state(reader.worker_pid))
    demand_level(here)
    demand_level(there)
