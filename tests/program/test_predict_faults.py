"""mmattn predict over 2,000 files, 5 % of them broken, some replaced and removed meanwhile, its processes killed at
random, by processes here and by tasks of a real Slurm: nothing lost, nothing twice, nothing stale."""

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
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from slurm_cluster import missing, one_node

from mmattn.inference.jobs.job import Job

pytestmark = pytest.mark.timeout(5400)  # cold: the workers are found by what they are called

FILES, DRIVER_KILLS, WORKER_KILLS, REPLACED = 2000, 10, 100, 40
REASONS = {"text": "not_media", "empty": "truncated", "cut": "truncated"}


@pytest.fixture
def many(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips under many names, every twentieth file broken in one of three ways."""
    root = tmp_path_factory.mktemp("many")
    clips = sorted((shapes / "clips").glob("*.mp4"))
    whole = clips[0].read_bytes()
    bad = {"text": b"no film", "empty": whole[:40], "cut": whole[: len(whole) // 3]}
    for i in range(FILES):
        folder = root / f"{i % 20:02d}"
        folder.mkdir(exist_ok=True)
        if i % 20 == 7:
            kind = list(bad)[i // 20 % len(bad)]
            (folder / f"{i:05d}_{kind}.mp4").write_bytes(bad[kind])
        else:
            shutil.copy(clips[i % len(clips)], folder / f"{i:05d}.mp4")
    return root


ENGINES = {
    "local": [],
    "slurm": "engine=slurm engine.tasks=2 engine.cpus=1 engine.memory_gb=3 engine.minutes=60 engine.workers=1".split(),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the working processes in /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_lost_nothing_is_twice_and_nothing_is_stale(engine: str, trained: Path, many: Path, tmp_path: Path):
    if engine == "slurm" and (why := missing()):
        pytest.skip(why)
    out, rng, kills, until = tmp_path / "tags.jsonl", random.Random(0), Counter(), 0.0
    command = [sys.executable, "-m", "mmattn", "predict", f"run={trained}", f"source={many}", f"out={out}"]
    command += ["shard_files=50", "batch_size=8", "device=cpu", *ENGINES[engine]]
    with one_node() if engine == "slurm" else nullcontext({}) as more:
        environment = {**os.environ, **more}
        while True:
            driver = subprocess.Popen(
                command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            while driver.poll() is None:
                time.sleep(0.05)
                now = answered(out)
                # By answers, not by time: so often on any machine; ten in a row without one end a job.
                if kills["worker"] < WORKER_KILLS and now > until:
                    with suppress(ProcessLookupError, IndexError):
                        os.kill(rng.choice(list(working_for(out))), signal.SIGKILL)
                        kills["worker"] += 1
                        until = now + rng.uniform(0, 2 * FILES / WORKER_KILLS)
                if kills["driver"] < DRIVER_KILLS and now > (kills["driver"] + 1) * FILES / (DRIVER_KILLS + 1):
                    driver.kill()
                    kills["driver"] += 1
            said, wrong = driver.communicate(timeout=60)
            assert driver.returncode in (0, -signal.SIGKILL), wrong
            if driver.returncode == 0 and kills["replaced"]:
                break
            if not kills["replaced"] and kills["driver"] >= DRIVER_KILLS // 2:
                kills["replaced"] = replace(many, rng)
        assert kills["driver"] == DRIVER_KILLS and kills["worker"] >= WORKER_KILLS // 2
        print(f"{engine}, killed: {dict(kills)}; {said}")
        records = [json.loads(line) for line in out.read_text().splitlines()]
        expected = sorted(str(path.relative_to(many)) for path in many.rglob("*.mp4"))
        assert sorted(record["id"] for record in records) == expected
        for record in records:
            now = (many / record["id"]).read_bytes()
            kind = next((kind for kind in REASONS if now == broken(many)[kind]), "")
            assert record.get("reason") == REASONS.get(kind), record
        stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        again = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert "nothing new" in again.stdout
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == {
            path: stamp for path, stamp in stamps.items() if path.is_file()
        }


def broken(many: Path) -> dict[str, bytes]:
    whole = (many / "00" / "00000.mp4").read_bytes()
    return {"text": b"no film", "empty": whole[:40], "cut": whole[: len(whole) // 3]}


def replace(many: Path, rng: random.Random) -> int:
    """Whole files become broken ones, broken ones whole, and some go."""
    files = sorted(many.rglob("*.mp4"))[1:]
    whole = (many / "00" / "00000.mp4").read_bytes()
    for k, path in enumerate(rng.sample(files, REPLACED)):
        if k % 4 == 3:
            path.unlink()
        else:
            path.write_bytes(whole if "_" in path.stem else broken(many)["text"])
    return REPLACED


def answered(out: Path) -> int:
    job = Job(Path(f"{out}.job"))
    return sum(map(job.done_count, job.shards()))


def working_for(out: Path) -> Iterator[int]:
    """The processes that hold the model, wherever they were started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if b"mmattn.inference.engines.process" in command and os.fsencode(f"{out}.job") in command:
                yield int(folder.name)
