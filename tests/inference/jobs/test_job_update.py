"""A job follows its source: files that are new, replaced, removed, or failed before."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from job_files import listed, made, names, run

from mmattn.errors import UsageError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source


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
    with pytest.raises(UsageError, match=r"clip0000\.mp4 was .*one.* before, now it is .*two.*set another out="):
        job.update(other_entries := list_source(str(tmp_path / "two" / "source")).entries, 16)
    assert other.update(other_entries, 16).todo == 0 and job.shards() == [0], "the same files are no new ones"
