"""A job answers every entry exactly once, whatever dies on the way."""

from __future__ import annotations

import json
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

from mmattn.errors import MmattnError, UsageError
from mmattn.inference.engines.local_driver import run_local
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source, reaches
from mmattn.inference.jobs.shard import process_shard

WORKER = str(Path(job_worker.__file__))
DRIVER = """
import sys
from pathlib import Path
from mmattn.inference.jobs.job import Job
from mmattn.inference.engines.local_driver import run_local, stopping
job = Job(Path(sys.argv[1]))
with stopping():
    run_local(job, job.open_shards(), [sys.executable, sys.argv[2], sys.argv[1]], ["cpu", "cpu"], 1)
"""


def made(tmp_path: Path, names: list[str], shard_files: int = 16) -> Job:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True, parents=True)
    for name in names:
        if not (source / name).exists():
            (source / name).write_text(name)
    job = Job(tmp_path / "job")
    job.update(list_source(str(source)).entries, shard_files)
    return job


def run(job: Job, devices: tuple[str, ...] = ("cpu", "cpu")) -> None:
    run_local(job, job.open_shards(), [sys.executable, WORKER, str(job.root)], devices, 1)


def names(count: int, **special: str) -> list[str]:
    """`special`: what n12 and so on are called instead."""
    return [special.get(f"n{i}", f"clip{i:04d}.mp4") for i in range(count)]


def check_whole(job: Job, files: list[str]) -> dict[str, dict]:
    """Every file has one answer, in the order of the listing, and nothing is left over."""
    records = list(job.records())
    assert [record["id"] for record in records] == sorted(files)
    assert sorted(path.name for path in job.root.iterdir() if any(path.iterdir())) == ["done", "files"]
    for record in records:
        assert record.get("text", record["id"]) == record["id"]
    return {record["id"]: record for record in records}


@pytest.mark.parametrize(
    ("source", "folder", "found"),
    [
        ("films", "films/out", True),
        ("films", "out", False),
        ("films/**/*.mp4", "films/out/deep", True),
        ("films/**/*.mp4", "filmed", False),
        ("films/*.mp4", "films", True),
        ("films/*.mp4", "films/out", False),
        ("films/*/*.mp4", "films/out", True),
        ("films/a*/*.mp4", "films/out", False),
        ("*.mp4", "out", False),
        ("films/*/*.mp4", ".", True),
    ],
)
def test_what_a_source_would_find_of_files_put_in_a_folder(
    source: str, folder: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert reaches(source, Path(folder)) == reaches(str(tmp_path / source), tmp_path / folder) == found


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


def listed(tmp_path: Path) -> list[Entry]:
    return list_source(str(tmp_path / "source")).entries


def test_failures_are_tried_again_on_demand_and_nothing_else_is(tmp_path: Path):
    files = names(20, n3="bad3.mp4")
    job = made(tmp_path, files)
    run(job, ("cpu",))
    before = job.records_of(0), job.records_of(1)
    assert job.update(listed(tmp_path), 16).todo == 0
    assert job.update(listed(tmp_path), 16, retry_failed=True).todo == 1
    assert job.update(listed(tmp_path), 16, retry_failed=True).todo == 0, "it is under way"
    assert [entry.id for entry in job.entries(2)] == ["bad3.mp4"]
    run(job, ("cpu",))
    assert (job.records_of(0), job.records_of(1)) == before, "what is done is never changed"
    assert Counter(record["id"] for record in job.records()) == Counter(files)


def test_a_file_that_was_replaced_is_answered_again(tmp_path: Path):
    files = names(20)
    job = made(tmp_path, files)
    run(job, ("cpu",))
    (tmp_path / "source" / "clip0004.mp4").write_text("another")
    update = job.update(listed(tmp_path), 16)
    assert (update.todo, update.changed, update.removed) == (1, 1, frozenset())
    assert job.update(listed(tmp_path), 16).todo == 0, "asked for again before it was answered"
    run(job, ("cpu",))
    answers = {record["id"]: record["text"] for record in job.records()}
    assert answers == {name: name for name in files} | {"clip0004.mp4": "another"}
    assert len(list(job.records())) == 20


def test_a_file_that_changed_while_it_waited_is_answered_by_the_next_command(tmp_path: Path):
    job = made(tmp_path, names(3))
    (tmp_path / "source" / "clip0001.mp4").write_text("another")
    run(job, ("cpu",))
    assert [record.get("reason", "ok") for record in job.records()] == ["ok", "changed", "ok"]
    assert job.update(listed(tmp_path), 16).changed == 1
    run(job, ("cpu",))
    assert {record["id"]: record["text"] for record in job.records()}["clip0001.mp4"] == "another"


def test_files_that_are_gone_have_no_record(tmp_path: Path):
    files = names(6)
    job = made(tmp_path, files)
    run(job, ("cpu",))
    kept = tmp_path / "elsewhere"
    (tmp_path / "source" / files[2]).rename(kept)
    update = job.update(listed(tmp_path), 16)
    assert update.removed == {files[2]}
    assert [record["id"] for record in job.records(update.removed)] == files[:2] + files[3:]
    kept.rename(tmp_path / "source" / files[2])
    update = job.update(listed(tmp_path), 16)
    assert (update.todo, update.removed) == (0, frozenset()), "it is the same file again"
    assert [record["id"] for record in job.records(update.removed)] == files


def test_what_other_commands_listed_is_kept_up_to_date_too(tmp_path: Path):
    files = names(6)
    job = made(tmp_path, files)
    run(job, ("cpu",))
    (tmp_path / "source" / files[0]).write_text("another")
    (tmp_path / "source" / files[1]).unlink()
    update = job.update(listed(tmp_path)[2:], 16)
    assert (update.todo, update.changed, update.removed) == (1, 1, {files[1]})


def test_content_tells_files_apart_where_that_is_asked_for(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(name)
    job = Job(tmp_path / "job")
    job.update(list_source(str(tmp_path), without=job.root, digests=True).entries, 16)
    run(job, ("cpu",))
    stamp = (tmp_path / "b.mp4").stat()
    os.utime(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("B.mp4")
    os.utime(tmp_path / "b.mp4", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    entries = list_source(str(tmp_path), without=job.root, digests=True).entries
    assert job.update(entries, 16).changed == 1
    assert [entry.id for entry in job.entries(1)] == ["b.mp4"]
    touched = job.entries(0)[0]
    assert not touched.changed(), "another time, the same content"


def test_new_files_are_added_as_new_shards(tmp_path: Path):
    files = names(20)
    run(made(tmp_path, files))
    job = made(tmp_path, [*files, "a.mp4", "z.mp4"])
    assert len(job.open_shards()) == 1
    run(job)
    assert [record["id"] for record in job.records()] == [*files, "a.mp4", "z.mp4"]


def test_answers_of_one_file_are_not_taken_for_another_of_its_name(tmp_path: Path):
    """Two folders with the same names are two sources."""
    job = made(tmp_path / "one", names(3))
    run(job, ("cpu",))
    other = made(tmp_path / "two", names(3))
    with pytest.raises(UsageError, match=r"clip0000\.mp4 was .*one.* before, now it is .*two.*name another out="):
        job.update(other_entries := list_source(str(tmp_path / "two" / "source")).entries, 16)
    assert other.update(other_entries, 16).todo == 0 and job.shards() == [0], "the same files are no new ones"


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
        # As far as this driver gets is told by its working processes: how long they take to start is the machine's.
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


class TestListing:
    def test_a_folder_is_listed_below_itself_without_what_is_not_media(self, tmp_path: Path):
        for name in ("b.mp4", "a/c.mkv", "a/notes.txt", ".hidden.mp4", ".git/x.mp4", "unknown", "out/old.mp4"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        listing = list_source(str(tmp_path), without=tmp_path / "out")
        assert [entry.id for entry in listing.entries] == ["a/c.mkv", "b.mp4", "unknown"]
        assert listing.skipped == {"hidden": 2, "not media by its name": 1}
        assert listing.entries[0].path == str(tmp_path / "a/c.mkv")
        assert listing.entries[0].size == len("a/c.mkv")

    @pytest.mark.parametrize("pattern", ["{}/**/*.mp4", "{}/*/*.mp4", "{}/?/*"])
    def test_a_pattern(self, pattern: str, tmp_path: Path):
        for name in ("a/1.mp4", "a/2.mkv", "b/.3.mp4", "c.mp4"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
        found = {entry.id for entry in list_source(pattern.format(tmp_path)).entries}
        assert (
            found
            == {"{}/**/*.mp4": {"a/1.mp4", "c.mp4"}, "{}/*/*.mp4": {"a/1.mp4"}, "{}/?/*": {"a/1.mp4", "a/2.mkv"}}[
                pattern
            ]
        )

    def test_a_file_named_like_a_pattern_is_that_file(self, tmp_path: Path):
        (tmp_path / "img[1]%d*.mp4").write_text("x")
        assert [entry.id for entry in list_source(str(tmp_path / "img[1]%d*.mp4")).entries] == ["img[1]%d*.mp4"]

    def test_a_list_may_name_anything(self, tmp_path: Path):
        odd = os.fsdecode(b"caf\xe9.mp4")
        (tmp_path / odd).write_text("x")
        (tmp_path / "list.txt").write_bytes(b"# of mine\r\ncaf\xe9.mp4\r\n\n/nowhere/z.mp4")
        entries = list_source(str(tmp_path / "list.txt")).entries
        assert [entry.id for entry in entries] == [odd, "/nowhere/z.mp4"]
        assert [entry.size for entry in entries] == [1, None]

    def test_a_manifest_keeps_its_ids_and_its_members(self, tmp_path: Path):
        rows = [{"id": "one", "path": "a.mp4"}, {"id": "two", "path": "b.tar", "offset": 512, "size": 9}]
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
        one, two = list_source(str(tmp_path / "m.jsonl")).entries
        assert (one.id, one.media) == ("one", tmp_path / "a.mp4")
        assert (two.media.offset, two.media.size) == (512, 9)
        assert type(two)(**json.loads(json.dumps(two.to_dict()))) == two

    def test_an_id_stands_for_one_file(self, tmp_path: Path):
        (tmp_path / "list.txt").write_text("a.mp4\na.mp4\n")
        with pytest.raises(UsageError, match=r"names 'a.mp4' 2 times"):
            list_source(str(tmp_path / "list.txt"))

    def test_nothing_to_work_on_is_said(self, tmp_path: Path):
        (tmp_path / "a.txt.md").write_text("x")
        for source in (tmp_path, tmp_path / "*.mp4", tmp_path / "absent"):
            with pytest.raises(UsageError, match=r"holds no files to work on|no such file"):
                list_source(str(source))
