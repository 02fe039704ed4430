"""A job answers every entry exactly once, whatever dies on the way."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import job_worker
import pytest
from job_files import DRIVER, WORKER, check_whole, made, names, run

from mmattn.errors import MmattnError
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.shard import process_shard


def test_every_entry_is_answered_once_and_in_order(tmp_path: Path):
    files = names(50, n7="bad7.mp4")
    job = made(tmp_path, files)
    assert [job.count(shard) for shard in job.shards()] == [16, 16, 16, 2]
    run(job)
    records = check_whole(job, files)
    assert records["bad7.mp4"]["reason"] == "not_media"
    before = {path: path.stat().st_mtime_ns for path in job.root.rglob("*")}
    run(job)
    assert {path: path.stat().st_mtime_ns for path in job.root.rglob("*")} == before


def test_an_entry_that_ends_its_process_is_put_aside_alone(tmp_path: Path):
    files = names(40, n5="clip0005poison.mp4", n6="clip0006poison.mp4", n30="clip0030poison.mp4")
    job = made(tmp_path, files)
    run(job)
    records = check_whole(job, files)
    reasons = {name: record["reason"] for name, record in records.items() if record["status"] != "ok"}
    assert reasons == dict.fromkeys((name for name in files if "poison" in name), "quarantined")


def test_an_exception_costs_the_entry_that_raises_it(tmp_path: Path):
    files = names(30, n3="clip0003fault.mp4", n20="clip0020large.mp4")
    job = made(tmp_path, files)
    run(job, ("cpu",))
    records = check_whole(job, files)
    failed = {name: (record["reason"], record["detail"]) for name, record in records.items() if "reason" in record}
    assert failed == {
        "clip0003fault.mp4": ("crashed", "ValueError: not for this model"),
        "clip0020large.mp4": ("too_large", "MemoryError: "),
    }


def test_a_file_that_is_not_the_one_listed_is_changed(tmp_path: Path):
    job = made(tmp_path, names(3))
    (tmp_path / "source" / "clip0001.mp4").write_text("another")
    (tmp_path / "source" / "clip0002.mp4").unlink()
    run(job, ("cpu",))
    assert [record.get("reason", "ok") for record in job.records()] == ["ok", "changed", "changed"]


def test_a_file_that_changes_at_any_look_gets_no_answer_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every third look at a file finds it changed."""
    job, looks = made(tmp_path, names(40)), iter(range(1000))
    monkeypatch.setattr(Entry, "changed", lambda entry: next(looks) % 3 == 2)
    process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    records = job.records_of(0)
    assert all(record.get("text", record["id"]) == record["id"] for record in records)
    assert {record.get("reason", "ok") for record in records} == {"ok", "changed"}


@pytest.mark.parametrize("tail", [b'{"id": "clip0003.mp4", "sta', b"\x00\x00\n", b'{"id": "clip0009.mp4"}\n', b"[1]\n"])
def test_a_journal_with_a_broken_end_goes_on_before_it(tail: bytes, tmp_path: Path):
    job = made(tmp_path, names(6))
    records = []
    process_shard(job, 0, job_worker.PROCESSOR, records.append)
    lines = (job.root / "done" / "000000.jsonl").read_bytes().splitlines(keepends=True)
    (job.root / "done" / "000000.jsonl").unlink()
    (job.root / "part" / "000000.dead.jsonl").write_bytes(b"".join(lines[:2]))
    (job.root / "part" / "000000.jsonl").write_bytes(b"".join(lines[:3]) + tail)
    assert job.done_count(0) >= 3
    told = []
    process_shard(job, 0, job_worker.PROCESSOR, told.append)
    assert [message["done"] for message in told] == [4, 5, 6]
    assert (job.root / "done" / "000000.jsonl").read_bytes() == b"".join(lines)


def test_answers_that_were_tampered_with_are_not_taken(tmp_path: Path):
    job = made(tmp_path, names(3))
    process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    done = job.root / "done" / "000000.jsonl"
    done.write_bytes(b"".join(done.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(MmattnError, match="does not hold the records of its shard"):
        list(job.records())
    done.write_bytes(b"no json\n")
    with pytest.raises(MmattnError, match="damaged"):
        list(job.records())


def test_what_a_worker_cannot_begin_with_ends_the_job_with_its_words(tmp_path: Path):
    job = made(tmp_path, names(3))
    with pytest.raises(MmattnError, match="no weights") as caught:
        run(job, ("broken",))
    assert caught.value.exit_code == 2
    with pytest.raises(MmattnError, match="ended with exit code 9 before it processed"):
        run(job, ("dying",))


def test_a_full_disk_stops_the_job_and_leaves_what_is_committed(tmp_path: Path):
    """No file may grow beyond 1 KB: to a program, that is what a full disk is."""
    job = made(tmp_path, names(40))
    process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    whole = (job.root / "done" / "000000.jsonl").read_bytes()
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", sys.executable, "-c", DRIVER, str(job.root), WORKER]
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    driver = subprocess.run(command, capture_output=True, text=True, env=quiet, timeout=60)
    assert driver.returncode == 1
    # Either of the two workers may be the first to meet the limit.
    assert re.search(r"part/00000[12]\.\w+\.jsonl: cannot be written \(File too large\)", driver.stderr)
    assert (job.root / "done" / "000000.jsonl").read_bytes() == whole
    run(job)
    assert len(list(job.records())) == 40


def test_killed_at_random_nothing_is_lost_and_nothing_is_twice(tmp_path: Path):
    """The driver by kill -9 again and again, working processes as well."""
    rng = random.Random(0)
    special = {f"n{i}": f"clip{i:04d}slow.mp4" for i in range(240)}
    files = names(240, **{**special, "n100": "clip0100poison.mp4", "n101": "clip0101bad.mp4"})
    job = made(tmp_path, files, 32)
    command = [sys.executable, "-c", DRIVER, str(job.root), WORKER]
    kills = Counter()
    for _ in range(40):
        driver = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        # As far as this driver gets is counted by its working processes: how long they take to start is the machine's.
        while driver.poll() is None and kills["driver"] < 6 and not _children(driver.pid):
            time.sleep(0.01)
        if kills["worker"] < 8 and kills["driver"] % 2 == 0 and (workers := _children(driver.pid)):
            os.kill(rng.choice(workers), signal.SIGKILL)
            kills["worker"] += 1
        ends = time.monotonic() + rng.uniform(0.1, 0.7)
        while driver.poll() is None and time.monotonic() < ends and kills["driver"] < 6:
            time.sleep(0.05)
            if kills["worker"] < 8 and (workers := _children(driver.pid)) and rng.random() < 0.2:
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills["worker"] += 1
        if driver.poll() is None and kills["driver"] < 6:
            driver.kill()
            kills["driver"] += 1
        if driver.wait(timeout=120) == 0:
            break
    assert kills["driver"] >= 3
    assert kills["worker"] >= 2
    records = check_whole(job, files)
    failed = {name: record["reason"] for name, record in records.items() if record["status"] != "ok"}
    assert failed == {"clip0100poison.mp4": "quarantined", "clip0101bad.mp4": "not_media"}


def test_a_signal_keeps_what_is_done(tmp_path: Path):
    job = made(tmp_path, [f"clip{i:04d}slow.mp4" for i in range(200)], 50)
    command = [sys.executable, "-c", DRIVER.replace("run_local(job", "print('on', flush=True); run_local(job")]
    driver = subprocess.Popen([*command, str(job.root), WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not (job.root / "part").is_dir() or not any(job.done_count(shard) for shard in job.shards()):
        assert driver.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    workers = _children(driver.pid)
    driver.terminate()
    assert b"Stopped" in driver.communicate(timeout=30)[1]
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert sum(job.done_count(shard) for shard in job.shards()) > 0


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found
