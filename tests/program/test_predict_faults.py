"""mmattn predict over 2,000 files, 5 % of them broken, its processes killed at random: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

FILES, DRIVER_KILLS, WORKER_KILLS = 2000, 10, 25
REASONS = {"text": "not_media", "empty": "truncated", "cut": "truncated"}


@pytest.fixture(scope="module")
def many(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to a few clips under many names, every twentieth file broken in one of three ways."""
    root = tmp_path_factory.mktemp("many")
    clips = sorted((shapes / "clips").glob("*.mp4"))
    whole = clips[0].read_bytes()
    broken = {"text": b"no film", "empty": whole[:40], "cut": whole[: len(whole) // 3]}
    for i in range(FILES):
        folder = root / f"{i % 20:02d}"
        folder.mkdir(exist_ok=True)
        if i % 20 == 7:
            kind = list(broken)[i // 20 % len(broken)]
            (folder / f"{i:05d}_{kind}.mp4").write_bytes(broken[kind])
        else:
            shutil.copy(clips[i % len(clips)], folder / f"{i:05d}.mp4")
    return root


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the working processes in /proc")
def test_nothing_is_lost_and_nothing_is_twice(trained: Path, many: Path, tmp_path: Path):
    out, rng, kills = tmp_path / "tags.jsonl", random.Random(0), Counter()
    command = [sys.executable, "-m", "mmattn", "predict", f"run={trained}", f"source={many}", f"out={out}"]
    command += ["shard_files=100", "batch_size=8", "device=cpu"]
    for _ in range(200):
        driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ends = time.monotonic() + rng.uniform(6, 14)
        while driver.poll() is None and (time.monotonic() < ends or kills["driver"] >= DRIVER_KILLS):
            time.sleep(0.5)
            if kills["worker"] < WORKER_KILLS and (workers := _children(driver.pid)) and rng.random() < 0.1:
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills["worker"] += 1
        if driver.poll() is None:
            driver.kill()
            kills["driver"] += 1
        said, wrong = driver.communicate(timeout=60)
        if driver.returncode == 0:
            break
        assert driver.returncode == -signal.SIGKILL, wrong
    assert kills["driver"] >= DRIVER_KILLS
    print(f"killed: {dict(kills)}; {said}")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    expected = sorted(str(path.relative_to(many)) for path in many.rglob("*.mp4"))
    assert [record["id"] for record in records] == expected
    for record in records:
        kind = Path(record["id"]).stem.partition("_")[2]
        assert record.get("reason") == REASONS.get(kind), record
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "all known before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found
