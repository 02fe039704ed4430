"""Any number of processes may take themselves for the holder of a shard: its answers are those of one of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import job_worker
import pytest
from job_files import DRIVER, WORKER, check_whole, made, names, run

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.journal import Journal
from mmattn.inference.jobs.shard import EntryProcessor, process_shard
from mmattn.process.lease import Lease


def answer(job: Job, holder: str, at: int) -> dict:
    return {"id": job.entries(0)[at].id, "status": "ok", "by": holder}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_holders_do_in_whatever_order_the_first_commit_stays(seed: int, tmp_path: Path):
    rng = random.Random(seed)
    job = made(tmp_path, names(4))
    done = job.root / "done" / "000000.jsonl"
    holders: dict[str, Journal] = {}
    committed = None
    for step in range(60):
        name = f"h{rng.randrange(3)}"
        journal = holders.get(name)
        if journal is None:
            holders[name] = job.journal(0)
        elif rng.random() < 0.1:  # killed: nothing is committed or cleared
            journal.close()
            del holders[name]
        elif not journal.committed and journal.count < 4:
            journal.add(answer(job, f"{name}.{step}", journal.count))
        else:
            journal.commit()
            journal.close()
            del holders[name]
        if committed is None and done.is_file():
            committed = done.read_bytes()
            assert [json.loads(line)["id"] for line in committed.splitlines()] == names(4)
        assert committed is None or done.read_bytes() == committed
    for journal in holders.values():
        journal.close()
    process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    assert len(job.records_of(0)) == 4
    job.tidy()
    assert not any((job.root / "part").iterdir())


def test_a_holder_goes_on_where_the_furthest_before_it_ended(tmp_path: Path):
    job = made(tmp_path, names(6))
    for name, count in (("a", 2), ("b", 4), ("c", 1)):
        (job.root / "part").mkdir(exist_ok=True)
        lines = [json.dumps(answer(job, name, at)) + "\n" for at in range(count)]
        (job.root / "part" / f"000000.{name}.jsonl").write_text("".join(lines) + '{"id": "cut')
    with closing(job.journal(0)) as journal:
        assert journal.count == 4
        for at in (4, 5):
            journal.add(answer(job, "d", at))
        journal.commit()
    assert [record["by"] for record in job.records_of(0)] == ["b", "b", "b", "b", "d", "d"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    job = made(tmp_path, names(4))
    with closing(job.journal(0)) as first, closing(job.journal(0)) as second:
        for at in range(4):
            first.add(answer(job, "first", at))
            second.add(answer(job, "second", at))
        first.commit()
        second.commit()
    assert {record["by"] for record in job.records_of(0)} == {"first"}


def test_a_shard_in_hand_is_left_to_its_holder(tmp_path: Path):
    job = made(tmp_path, names(4))
    with job.lease(0):
        assert not process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    assert process_shard(job, 0, job_worker.PROCESSOR, lambda message: None)
    with job.lease(0):
        assert process_shard(job, 0, job_worker.PROCESSOR, lambda message: None), "it is done"


def test_a_holder_that_stood_still_stops_when_it_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is taken over in the middle of its work, and what it did since is not mixed into the other's answers."""
    job = made(tmp_path, names(32), 32)
    monkeypatch.setattr(Job, "lease", lambda job, shard: Lease(job.root / "lease" / f"{shard}", beat_s=0.02, stale_s=9))
    standing, going = threading.Event(), threading.Event()

    def slowly(entries):
        for record in job_worker.records(entries):
            yield record | {"by": "first"}
            if "0003" in record["path"]:
                standing.set()
                going.wait()

    finished = []
    first = threading.Thread(
        target=lambda: finished.append(process_shard(job, 0, EntryProcessor(slowly, 1), lambda message: None))
    )
    first.start()
    standing.wait()
    newest = max(int(path.name) for path in (job.root / "lease" / "0").iterdir())
    other = Lease(job.root / "lease" / "0", beat_s=0.02, stale_s=9)
    (job.root / "lease" / "0" / str(newest + 1)).write_text("free\n")  # as if it had lapsed
    assert other.take()
    with closing(job.journal(0)) as journal:
        assert journal.count == 4
        while not (job.root / "done").is_dir() or journal.count < 32:
            journal.add(answer(job, "second", journal.count))
        time.sleep(0.2)  # beats of the first
        going.set()
        first.join()
        assert finished == [False]
        journal.commit()
    assert Counter(record["by"] for record in job.records_of(0)) == {"first": 4, "second": 28}
    other.release()


def logged(job: Job) -> tuple[dict[str, str], Path]:
    log = job.root.parent / "asked.log"
    return {**os.environ, "MMATTN_TEST_LOG": str(log)}, log


def test_two_drivers_at_once_share_the_work(tmp_path: Path):
    """As a driver that was requeued beside tasks of the one before: each entry is answered once, by one of them."""
    files = [f"clip{i:04d}slow.mp4" for i in range(160)]
    job = made(tmp_path, files, 8)
    environment, log = logged(job)
    command = [sys.executable, "-c", DRIVER, str(job.root), WORKER]
    drivers = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [driver.wait(timeout=300) for driver in drivers] == [0, 0, 0]
    check_whole(job, files)
    asked = Counter(log.read_text().split())
    assert asked == Counter(files), "an entry was worked on twice"


def test_a_driver_waits_for_what_others_work_on_without_a_process(tmp_path: Path):
    job = made(tmp_path, names(16), 8)
    command = [sys.executable, "-c", DRIVER, str(job.root), WORKER]
    with job.lease(1):
        driver = subprocess.Popen(command)
        wait_until(lambda: job.is_done(0) and not _children(driver.pid), driver)
        assert not job.is_done(1)
    assert driver.wait(timeout=300) == 0
    check_whole(job, names(16))


def test_a_worker_of_a_dead_driver_and_the_next_driver(tmp_path: Path):
    """The worker outlives its driver for a while, stopped in the middle of a shard, and wakes up after it was done."""
    files = [f"clip{i:04d}slow.mp4" for i in range(64)]
    job = made(tmp_path, files, 32)
    command = [sys.executable, "-c", DRIVER, str(job.root), WORKER]
    driver = subprocess.Popen(command, start_new_session=True)
    wait_until(lambda: sum(job.done_count(shard) for shard in (0, 1)) > 4, driver)
    workers = _children(driver.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: all(_state(worker) == "T" for worker in workers))
    driver.kill()
    driver.wait()
    try:
        # To the leases of its shards, a process that stands still is as good as dead once they lapse; here they are
        # taken from it at once.
        for folder in (job.root / "lease").iterdir():
            newest = max(int(path.name) for path in folder.iterdir())
            (folder / str(newest + 1)).write_text("free\n")
        assert subprocess.run(command, timeout=300).returncode == 0
        whole = {path: path.read_bytes() for path in (job.root / "done").iterdir()}
        check_whole(job, files)
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    job.tidy()
    assert {path: path.read_bytes() for path in (job.root / "done").iterdir()} == whole
    check_whole(job, files)


KILLED = """
import os, signal, sys
count, sync = 0, os.fsync
def fsync(fd):
    global count
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(fd)
os.fsync = fsync
"""


def test_a_driver_killed_at_any_write_leaves_nothing_behind(tmp_path: Path):
    """Between a file beside its place and the file in it, too: what kill -9 leaves of a note is cleared in the end."""
    files = names(6, n1="clip0001poison.mp4")
    job = made(tmp_path, files, 3)
    ended = []
    for number in (1, 2, 2, 9):  # of its writes, before the one it is killed at; it notes each death of a process
        command = [sys.executable, "-c", KILLED + DRIVER, str(job.root), WORKER, str(number)]
        ended.append(subprocess.run(command, timeout=300, stderr=subprocess.DEVNULL).returncode)
    assert ended == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0]
    records = check_whole(job, files)
    assert [name for name, record in records.items() if record["status"] != "ok"] == ["clip0001poison.mp4"]
    assert not list(job.root.rglob(".*"))


def test_what_kill_9_left_is_cleared(tmp_path: Path):
    job = made(tmp_path, names(4))
    for kind in ("files", "done", "part", "tries"):
        (job.root / kind).mkdir(exist_ok=True)
        (job.root / kind / ".0123456789ab.part").write_text("half")
    run(job)
    check_whole(job, names(4))


def test_a_journal_whose_file_was_removed_says_so(tmp_path: Path):
    job = made(tmp_path, names(1))
    with closing(job.journal(0)) as journal:
        journal.add(answer(job, "a", 0))
        for path in (job.root / "part").iterdir():
            path.unlink()
        with pytest.raises(MmattnError, match="was removed"):
            journal.commit()


def wait_until(true, process: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + 300
    while not true():
        assert time.monotonic() < until
        assert process is None or process.poll() is None
        time.sleep(0.02)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
