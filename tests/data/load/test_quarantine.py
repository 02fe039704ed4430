"""The limit on bad clips stops what is above it and nothing else; the list of them is shared and only grows."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mmattn.data.load.cache import EXCLUDED, FAILED, READ, ClipCache
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.dataset import missing_clip
from mmattn.data.load.limit import LEVEL, is_above, tail
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import FolderSource
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import MediaError, MmattnError
from mmattn.media.write.video import write_video

SPEC = ClipSpec(seconds=0.5, fps=8, height=16, width=16, sample_rate=16000, mels=8)


@pytest.mark.parametrize(
    ("bad", "tried", "share"), [(3, 20, "1/20"), (9, 30, "1/5"), (200, 3000, "1/20"), (20, 20, "9/10")]
)
def test_the_tail_is_the_binomials(bad: int, tried: int, share: str) -> None:
    p, of = Fraction(share).as_integer_ratio()
    exact = sum(math.comb(tried, k) * p**k * (of - p) ** (tried - k) for k in range(bad, tried + 1))
    assert tail(bad, tried, p / of) == pytest.approx(float(Fraction(exact, of**tried)), rel=1e-9)


def test_the_tails_ends() -> None:
    assert tail(0, 100, 0.0) == tail(5, 100, 0.05) == tail(100, 100, 1.0) == 1.0
    assert tail(1, 100, 0.0) == 0.0
    assert not is_above(19, 19, 0.05), "too few to say"
    assert is_above(1, 20, 0.0)


def _stops_at(share: float, clips: int, seed: int) -> int | None:
    """After how many clips a run through that many stops, bad ones at random places, at the limit of 5 %."""
    draw = random.Random(seed)
    order = [k < round(share * clips) for k in range(clips)]
    draw.shuffle(order)
    bad = 0
    for tried, each in enumerate(order, start=1):
        bad += each
        if each and is_above(bad, tried, 0.05):
            return tried
    return None


def test_healthy_runs_go_on_whatever_their_order_and_bad_ones_stop_early() -> None:
    assert not [seed for seed in range(400) if _stops_at(0.03, 5000, seed) is not None]
    assert len([seed for seed in range(200) if _stops_at(0.05, 5000, seed) is not None]) <= 2
    stops = [_stops_at(0.2, 5000, seed) for seed in range(400)]
    assert all(stop is not None and stop < 500 for stop in stops)
    assert sorted(stops)[200] < 80  # type: ignore[type-var]


def _state(**counts: int) -> np.ndarray:
    codes = {"untried": 0, "read": READ, "failed": FAILED, "excluded": EXCLUDED}
    return np.concatenate([np.full(count, codes[name], np.uint8) for name, count in counts.items()])


def test_what_other_processes_found_counts_once() -> None:
    quarantine = Quarantine(0.05)
    quarantine.check(_state(untried=900, read=95, failed=5))
    with pytest.raises(MmattnError, match="30 of 200 clips"):  # 15 found here and 15 there, of 100 each
        quarantine.check(_state(untried=900, read=85, failed=15), range(15), world=2)
    quarantine.check(_state(untried=900, read=95, failed=5), range(5), world=2)
    quarantine.check(_state(untried=960, failed=10, read=30), range(960, 970), world=1000)  # the very same ten
    with pytest.raises(MmattnError, match="60 of 1000 clips"):  # known before: all of them are above the limit
        quarantine.check(_state(untried=940, excluded=60))
    quarantine.check(_state(untried=950, excluded=50))


def test_few_known_before_and_many_read_are_no_reason() -> None:
    Quarantine(0.05).check(_state(read=950, excluded=50))


def test_adding_takes_no_longer_the_more_there_are(tmp_path: Path) -> None:
    one, other = Quarantine(0.05), Quarantine(0.05)
    for each in (one, other):
        each.keep_in(tmp_path / "unreadable.jsonl")

    def added(start: int, count: int) -> float:
        begin = time.process_time()
        for k in range(start, start + count):
            (one, other)[k % 2].add(f"clip {k}", MediaError(f"{k}.mp4", "truncated"))
        return time.process_time() - begin

    first = added(0, 1000)
    added(1000, 20_000)
    assert added(21_000, 1000) < 5 * first + 0.5
    one.refresh()
    other.refresh()
    assert one.reasons.keys() == other.reasons.keys() == {f"clip {k}" for k in range(22_000)}
    assert one.elsewhere == [f"clip {k}" for k in range(1, 22_000, 2)]


def _add(file: Path, number: int) -> None:
    quarantine = Quarantine(0.05)
    quarantine.keep_in(file)
    for k in range(300):
        name = f"shared {k}" if k % 3 == 0 else f"own {number} {k}"
        quarantine.add(name, MediaError("x" * 500, "truncated", "é" * 300))


def test_processes_that_add_at_once_write_whole_lines_and_each_clip_once(tmp_path: Path) -> None:
    file = tmp_path / "unreadable.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_add, args=(file, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    names = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert len(names) == len(set(names)) == 100 + 4 * 200


def test_a_line_cut_off_is_ended_by_the_next_and_never_lost_twice(tmp_path: Path) -> None:
    file = tmp_path / "unreadable.jsonl"
    one = Quarantine(0.05)
    one.keep_in(file)
    one.add("a", MediaError("a.mp4", "truncated"))
    with file.open("a") as opened:
        opened.write('{"id": "cut')
    one.refresh()
    one.add("b", MediaError("b.mp4", "truncated"))
    one.add("c", MediaError("c.mp4", "truncated"))
    again = Quarantine(0.05)
    again.keep_in(file)
    assert list(again.reasons) == ["a", "b", "c"] and again.elsewhere == []
    assert len(file.read_text().splitlines()) == 4


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_the_limit_counts_what_loader_processes_find_however_they_were_started(start: str, tmp_path: Path) -> None:
    frames = np.full((4, 16, 16, 3), 90, np.uint8)
    write_video(tmp_path / "good.mp4", frames, 8)
    (tmp_path / "bad.mp4").write_text("no film")
    rows = [Row(str(k), tmp_path / ("bad.mp4" if k % 3 == 0 else "good.mp4"), tags=(str(k % 2),)) for k in range(90)]
    data = ClipData(
        source=FolderSource(str(tmp_path)), clip=SPEC, augment=Augment(), batch_size=6, workers=2, cache_gb=0.01,
        seed=0, isolated=False,
    )  # fmt: skip
    data.__dict__["rows"] = {"train": rows, "val": rows[1:3], "test": []}
    alone = replace(data, workers=1)
    alone.__dict__["rows"] = data.rows
    loader = alone.loader(alone.dataset("train"), train=False)
    loader.multiprocessing_context = start
    with pytest.raises(MmattnError, match=r"^(\d|1\d|2[0-5]) of \d+ clips could not be read"):  # before all were tried
        list(loader)
    # Within the limit every one is tried, counted, and not tried again.
    easy = replace(data, max_bad_fraction=0.5)
    easy.__dict__["rows"] = data.rows
    loader = easy.loader(easy.dataset("train"), train=False)
    loader.multiprocessing_context = start
    for _ in range(2):
        assert sum(int((~batch.real).sum()) for batch in loader) == 30
        state = loader.clips.cache.state
        assert int((state == FAILED).sum()) == 30 and int((state != 0).sum()) == 90
    assert len(easy.quarantine.reasons) == 30


def test_what_is_known_to_be_bad_goes_along_to_a_process_that_is_not_forked() -> None:
    cache = ClipCache(3, SPEC.finish(missing_clip(SPEC)), 1 << 20)
    cache.state[:] = [READ, FAILED, EXCLUDED]
    build, given = cache.__reduce__()
    assert build(*given).state.tolist() == [0, FAILED, EXCLUDED]


def test_the_level_is_the_documented_one() -> None:
    assert LEVEL == 1e-4
    assert [min(k for k in range(n + 1) if is_above(k, n, 0.05)) for n in (20, 50, 100, 1000)] == [7, 11, 16, 78]


def test_a_rank_counts_what_the_others_list(tmp_path: Path) -> None:
    """Two ranks share the batches. What each finds is in the file, and both together are above the limit."""
    write_video(tmp_path / "good.mp4", np.full((4, 16, 16, 3), 90, np.uint8), 8)
    (tmp_path / "bad.mp4").write_text("no film")
    bad = range(40, 400, 5)
    rows = [Row(str(k), tmp_path / ("bad.mp4" if k in bad else "good.mp4"), tags=(str(k % 2),)) for k in range(400)]
    loaders = []
    for rank in range(2):
        data = ClipData(
            source=FolderSource(str(tmp_path)), clip=SPEC, augment=Augment(), batch_size=10, workers=0, cache_gb=0.01,
            seed=0, isolated=False, max_bad_fraction=0.15,
        )  # fmt: skip
        data.__dict__["rows"] = {"train": rows, "val": rows[:2], "test": []}
        data.quarantine.keep_in(tmp_path / "unreadable.jsonl")
        loaders.append(data.loader(data.dataset("train"), train=False, rank=rank, world=2))
    batches = [iter(loader) for loader in loaders]
    with pytest.raises(MmattnError, match=r"^(\d+) of (\d+) clips could not be read") as error:
        while True:
            for each in batches:
                next(each)
    found, tried = (int(word) for word in str(error.value).split()[0:3:2])
    states = [loader.clips.cache.state for loader in loaders]
    seen = [int((state == FAILED).sum()) for state in states]
    assert found == sum(seen) > max(seen) > 0, "over both"
    assert tried in (400, *(int((state != 0).sum()) * 2 for state in states))
