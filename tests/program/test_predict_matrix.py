"""Rows of the reliability matrix through the real `mmattn predict`; docs/predict.md says where all are tested."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmattn.inference.jobs.job import Job

pytestmark = pytest.mark.slow  # minutes of starting and killing processes
FAULTS = Path(__file__).parent / "faults"
NAMES = [
    b"caf\xe9.mp4",
    b"new\nline.mp4",
    b"n" * 251 + b".mp4",
    "\u202eright to left.mp4".encode(),
    b"-rf $HOME %d.mp4",
]


def command(trained: Path, source: Path, out: Path, *more: str) -> list[str]:
    few = ["device=cpu", "engine.workers=1", "decoders=1", "batch_size=1"]
    more = more if any(text.startswith("engine=") for text in more) else (*few, *more)
    return [sys.executable, "-m", "mmattn", "predict", f"run={trained}", f"source={source}", f"out={out}", *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **more}


def ran(arguments: list[str], code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=400, env=environment(**more))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def read(out: Path) -> dict[str, dict]:
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len({record["id"] for record in records}) == len(records)
    return {record["id"]: record for record in records}


def copies(shapes: Path, folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    clips = sorted((shapes / "clips").glob("*.mp4"))
    for i, name in enumerate(names):
        shutil.copy(clips[i % len(clips)], folder / name)
    return folder


@pytest.fixture(scope="module")
def poisoned(trained: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Good files between poison ones, and what engine=local says of them."""
    root = tmp_path_factory.mktemp("poisoned")
    kinds = ("deadly", "endless", "spinning", "hungry", "fatal", "rowdy")
    names = [f"{2 * k:02d}.mp4" for k in range(7)] + [f"{2 * k + 1:02d}_{kind}.mp4" for k, kind in enumerate(kinds)]
    source, out = copies(shapes, root / "source", sorted(names)), root / "local.jsonl"
    ran(command(trained, source, out, "deadline_s=5", "shard_files=7"), PYTHONPATH=str(FAULTS))
    return source, out


def test_poison_costs_itself(poisoned: tuple[Path, Path]):
    records = read(poisoned[1])
    assert len(records) == 13
    reasons = {name: record["reason"] for name, record in records.items() if record["status"] != "ok"}
    assert reasons == {
        "01_deadly.mp4": "crashed",
        "03_endless.mp4": "timeout",
        "05_spinning.mp4": "timeout",
        "07_hungry.mp4": "too_large",
        "09_fatal.mp4": "quarantined",
        "11_rowdy.mp4": "crashed",
    }
    assert records["01_deadly.mp4"]["detail"] == "worker ended by SIGSEGV"
    assert records["11_rowdy.mp4"]["detail"] == "ValueError: not for this model"


def test_ray_says_the_same_of_poison_to_the_byte(trained: Path, poisoned: tuple[Path, Path], tmp_path: Path):
    pytest.importorskip("ray")
    source, local = poisoned
    out = tmp_path / "ray.jsonl"
    more = ["engine=ray", "engine.actors=1", "deadline_s=5", "shard_files=4", "batch_size=1", "device=cpu"]
    ran(command(trained, source, out, *more), PYTHONPATH=str(FAULTS))
    # Which of two limits a spinning decoder meets first, of processor time or of time, is the machine's load.
    spins, lines = "05_spinning.mp4", [path.read_bytes().splitlines() for path in (out, local)]
    assert [line for line in lines[0] if spins.encode() not in line] == [
        line for line in lines[1] if spins.encode() not in line
    ]
    assert read(out)[spins]["reason"] == read(local)[spins]["reason"] == "timeout"


def test_a_second_driver_is_refused_and_files_that_change_are_taken_as_they_are(
    trained: Path, shapes: Path, tmp_path: Path
):
    source, out = copies(shapes, tmp_path / "in", [f"{i:03d}.mp4" for i in range(80)]), tmp_path / "out.jsonl"
    arguments = command(trained, source, out, "shard_files=20")
    first = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment())
    job = Job(Path(f"{out}.job"))
    deadline = time.monotonic() + 180
    while not any(map(job.done_count, job.shards())):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it hands out no other shard
    assert "another process is filling it now" in ran(arguments, 2).stderr
    first.terminate()
    first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=180)[1]
    assert first.returncode == 143 and "run the same command again" in said
    assert not out.exists()
    (source / "079.mp4").write_bytes((source / "000.mp4").read_bytes())
    (source / "078.mp4").unlink()
    said = ran(arguments).stdout
    assert "1 changed since the last run and processed again; 1 no longer there and left out" in said
    records = read(out)
    assert list(records) == [*(f"{i:03d}.mp4" for i in range(78)), "079.mp4"]
    old, new = ({**records[name], "id": 0, "path": 0} for name in ("000.mp4", "079.mp4"))
    assert old == new, "answered as it is now"
    assert all(record["status"] == "ok" for record in records.values())


def test_a_full_disk_under_the_output_leaves_the_answers(trained: Path, shapes: Path, tmp_path: Path):
    """No file may grow beyond 16 KB: enough for every shard, not for all of them in one file."""
    source, out = copies(shapes, tmp_path / "in", [f"{i:03d}.mp4" for i in range(48)]), tmp_path / "out.jsonl"
    arguments = command(trained, source, out, "shard_files=6", "threshold=0.2")
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", *arguments]
    assert f"{out}: cannot be written (File too large); the records are in {out}.job" in ran(limited, 2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.jsonl.job"], "no part of it either"
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.jsonl.job" / "done").iterdir()}
    assert len(done) == 8
    ran(arguments)
    assert len(read(out)) == 48 and out.stat().st_size > 16384
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_any_name_is_a_name_and_a_jumping_clock_and_secrets_leave_no_trace(trained: Path, shapes: Path, tmp_path: Path):
    source, out = copies(shapes, tmp_path / "in", []), tmp_path / "out.jsonl"
    clip = next(iter(sorted((shapes / "clips").glob("*.mp4"))))
    for name in NAMES:
        shutil.copy(clip, os.fsencode(source) + b"/" + name)
    ran(command(trained, source, out), PYTHONPATH=str(FAULTS), JUMPING_CLOCK="1", WANDB_API_KEY="not-to-be-told")
    records = read(out)
    assert sorted(map(os.fsencode, records)) == sorted(NAMES)
    assert all(record["status"] == "ok" for record in records.values())
    said = [{**record, "id": 0, "path": 0} for record in records.values()]
    assert all(record == said[0] for record in said)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"not-to-be-told" not in path.read_bytes()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_nobody_is_connected_to(trained: Path, shapes: Path, tmp_path: Path):
    source, trace = copies(shapes, tmp_path / "in", ["a.mp4", "b.mp4"]), tmp_path / "trace"
    (source / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n")
    out = tmp_path / "out.jsonl"
    ran(["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace), *command(trained, source, out)])
    assert len(read(out)) == 3
    calls = trace.read_text()
    assert "+++ exited with 0 +++" in calls
    assert "AF_INET" not in calls
