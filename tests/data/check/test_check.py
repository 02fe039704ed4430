"""A small library with one file of every kind: each is accounted for once, with what is odd about it."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from check_library import HOSTILE, RATE, beeps, records_of, run_check

from mmattn.config.compose import compose
from mmattn.data.check.command import Checked, check
from mmattn.data.check.duplicates import Fingerprint, alike
from mmattn.data.check.findings import FlagLimits
from mmattn.data.check.journal import ScanJournal, ScannedFile
from mmattn.data.manifest.checked import readable
from mmattn.data.manifest.library import Item, list_media
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import FolderSource
from mmattn.errors import UsageError
from mmattn.reports.library.check import table


def test_every_file_is_there_once_and_the_sum_agrees(library: Path, checked: Checked) -> None:
    records = records_of(checked.out, library)
    seen = {os.path.relpath(path, library) for path in library.rglob("*") if not path.is_dir()} - {".hidden.mp4"}
    assert set(records) == seen and len(seen) == 19
    summary = json.loads((checked.out / "summary.json").read_text())
    assert summary["files"] == 19 == sum(summary["status"].values())
    assert sum(summary["reasons"].values()) == summary["status"]["failed"] == 6
    assert summary["bytes"] == sum(record["bytes"] for record in records.values())
    assert sorted(path.name for path in checked.out.iterdir()) == ["check.jsonl", "summary.json"]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("a good.mp4", {"duplicate"}),
        ("sub/smaller.mkv", {"alike"}),
        ("other sound.mp4", set()),
        ("soundless.mp4", {"soundless"}),
        ("silent.mp4", {"silent"}),
        ("still.mp4", {"still"}),
        ("black.mp4", {"still", "black"}),
        ("short.mp4", {"short"}),
        ("sound only.wav", {"no_picture"}),
        ("rare.wav", {"no_picture", "silent"}),
        ("uneven.mkv", {"variable_rate", "offset"}),
    ],
)
def test_what_is_odd_is_flagged_and_nothing_else(name: str, flags: set[str], library: Path, checked: Checked) -> None:
    record = records_of(checked.out, library)[name]
    assert record["status"] == "ok"
    if name == "a good.mp4":  # the first by name of three of the same bytes may be another
        flags = set() if "duplicate_of" not in record else flags
    assert set(record["flags"]) == flags


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("garbage.mp4", "not_media"),
        ("empty.mp4", "not_media"),
        ("cut.mp4", "truncated"),
        ("pipe.mp4", "unreadable"),
        ("link.mp4", "unreadable"),
        (HOSTILE, "not_media"),
    ],
)
def test_what_cannot_be_read_has_its_reason(name: str, reason: str, library: Path, checked: Checked) -> None:
    record = records_of(checked.out, library)[name]
    assert (record["status"], record["reason"]) == ("failed", reason)


def test_what_was_measured(library: Path, checked: Checked) -> None:
    record = records_of(checked.out, library)["a good.mp4"]
    assert (record["video_codec"], record["audio_codec"]) == ("h264", "aac")
    assert (record["width"], record["height"], record["frames"]) == (64, 48, 20)
    assert record["fps"] == pytest.approx(10) and record["measured_fps"] == pytest.approx(10)
    assert record["measured_duration"] == pytest.approx(2.0, abs=0.1)
    assert (record["sample_rate"], record["channels"]) == (RATE, 1)
    uneven = records_of(checked.out, library)["uneven.mkv"]
    assert uneven["av_offset"] == pytest.approx(0.5, abs=0.01)
    loudest = np.sqrt(np.mean(np.square(beeps()).reshape(-1, RATE // 10), axis=1)).max()
    assert record["loudness"] == pytest.approx(loudest, rel=0.1)


def test_copies_name_the_first(library: Path, checked: Checked) -> None:
    records = records_of(checked.out, library)
    same = [records[name] for name in ("a good.mp4", "copy.mp4", os.fsdecode(b"\xff\n.mp4"))]
    assert len({record["sha256"] for record in same}) == 1
    first = next(record for record in same if "duplicate_of" not in record)
    assert {record.get("duplicate_of") for record in same} == {None, first["path"]}
    assert records["sub/smaller.mkv"]["like"] == first["path"]
    assert checked.summary.duplicate_bytes == 2 * first["bytes"]


def test_a_full_check_hears_what_a_sample_does_not(library: Path, tmp_path: Path) -> None:
    run_check(library / "rare.wav", tmp_path, "depth=full")
    (record,) = records_of(tmp_path, library).values()
    assert record["flags"] == ["no_picture"]
    assert record["heard"] == pytest.approx(90)


def test_a_header_check_decodes_nothing(library: Path, tmp_path: Path) -> None:
    run_check(library, tmp_path, "depth=header")
    records = records_of(tmp_path, library)
    assert "loudness" not in records["silent.mp4"] and records["silent.mp4"]["flags"] == []
    assert records["soundless.mp4"]["flags"] == ["soundless"]


def test_a_second_check_looks_only_at_what_changed(library: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    for name in ("a good.mp4", "copy.mp4", "still.mp4", "garbage.mp4"):
        shutil.copy2(library / name, root / name)
    assert run_check(root, out).from_before == 0
    first = (out / "check.jsonl").read_bytes()
    assert run_check(root, out).from_before == 4
    assert (out / "check.jsonl").read_bytes() == first, "the same files, the same report"
    (root / "copy.mp4").unlink()
    shutil.copy(library / "a good.mp4", root / "garbage.mp4")
    os.utime(root / "still.mp4", (1, 1))
    assert run_check(root, out).from_before == 1
    records = records_of(out, root)
    assert set(records) == {"a good.mp4", "still.mp4", "garbage.mp4"}
    assert records["garbage.mp4"]["status"] == "ok"
    assert run_check(root, out, "depth=header").from_before == 0, "another depth knows other things"
    assert run_check(root, out, "depth=header", "resume=false").from_before == 0


def test_other_limits_cost_no_second_look(library: Path, tmp_path: Path) -> None:
    run_check(library / "short.mp4", tmp_path)
    again = run_check(library / "short.mp4", tmp_path, "short_s=0.1", "silent_db=0")
    assert again.from_before == 1
    assert [record["flags"] for record in again.shown] == [["silent"]]


def test_a_journal_goes_on_after_a_crash(tmp_path: Path) -> None:
    path, old = tmp_path / "check.part.jsonl", tmp_path / "check.jsonl"
    jobs = [ScannedFile(Item(f"/{name}"), 1, 2) for name in "abc"]
    records = [job.begin("sample") | {"status": "ok"} for job in jobs]
    records[1] |= {"status": "failed", "reason": "timeout", "detail": ""}
    with ScanJournal(path, old, "sample", resume=True) as journal:
        for record in records[:2]:
            journal.add(record)
        with pytest.raises(UsageError, match="another data check"):
            ScanJournal(path, old, "sample", resume=True)
    with path.open("ab") as file:
        file.write(json.dumps(records[2]).encode()[:20])  # killed while writing
    with ScanJournal(path, old, "sample", resume=True) as journal:
        assert [journal.holds(job) for job in jobs] == [True, False, False], "a timeout is tried again"
        assert not journal.holds(ScannedFile(jobs[0].item, 1, 3)), "changed since"
        journal.add(records[2])
        assert journal.read(jobs[2].item) == records[2]
    assert [json.loads(line) for line in path.read_text().splitlines()] == records


def test_a_manifest_says_what_is_missing_and_reads_members_of_tars(library: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(library / "a good.mp4", "x.mp4")
    with tarfile.open(tmp_path / "shard.tar") as tar:
        assert tar.getmember("x.mp4").offset_data == 512
    lines = [
        {"path": str(library / "still.mp4"), "id": "1", "end": 1},
        {"path": str(library / "still.mp4"), "id": "2", "start": 1},
        {"path": "gone.mp4", "id": "3"},
        {"path": "shard.tar", "id": "4", "offset": 512, "size": (library / "a good.mp4").stat().st_size},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    checked = run_check(tmp_path / "m.jsonl", tmp_path / "out")
    found = {Path(record["path"]).name: record for record in checked.shown}
    assert checked.summary.status == {"ok": 2, "missing": 1}
    assert found["still.mp4"]["flags"] == ["still"], "two clips of one file, looked at once"
    assert (found["shard.tar"]["video_codec"], found["shard.tar"]["size"]) == ("h264", lines[3]["size"])
    assert "1 missing" in table(checked)


def test_what_cannot_be_read_is_left_out_of_training(
    library: Path, checked: Checked, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = checked.out / "check.jsonl"
    lines = [{"path": str(library / name), "tags": ["x"]} for name in ("still.mp4", "garbage.mp4", "new.mp4")]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = FolderSource(str(tmp_path), checked=str(report)).rows()
    assert [row.path.name for row in rows] == ["still.mp4", "new.mp4"]
    assert "1 of 3 clips cannot be read; left out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="lists none of the 1 clip"):
        readable([Row("a", Path("/elsewhere/a.mp4"))], report)
    with pytest.raises(UsageError, match="line 1: not a line of mmattn data check"):
        readable(rows, tmp_path / "manifest.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        readable(rows, tmp_path / "none.jsonl")


def test_what_lies_in_out_is_not_scanned(library: Path, tmp_path: Path) -> None:
    shutil.copy(library / "still.mp4", tmp_path / "still.mp4")
    for _ in range(2):
        assert run_check(tmp_path, tmp_path / "report").summary.files == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["source={root}/gone"], "no such file or directory"),
        (["source={root}/empty"], "holds no files"),
        (["source=https://host/x"], "local files"),
        (["source={root}", "depth=deep"], "expected header, sample, full"),
        (["source={root}", "workers=-1"], "expected 0 or more"),
        (["source={root}", "deadline_s=0"], "above 0"),
        (["source={root}", "deadline_s=soon"], "expected a number"),
        (["source={root}", "out={root}/file"], "not a directory"),
    ],
)
def test_nothing_to_check_is_one_line(overrides: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=says):
        check(compose("data_check", [f"out={tmp_path}/o", *(text.format(root=tmp_path) for text in overrides)]))


def test_limits_are_inclusive_where_a_person_would_expect_it() -> None:
    record = {"status": "ok", "issues": [], "video_codec": "h264", "audio_codec": "aac", "duration": 1.0}
    assert FlagLimits().flags(record) == []
    assert FlagLimits().flags(record | {"duration": 0.0}) == ["short"]
    assert FlagLimits().flags(record | {"measured_duration": 2.0}) == ["duration_differs"]
    assert FlagLimits().flags(record | {"loudness": 0.0}) == ["silent"]
    assert FlagLimits().flags(record | {"av_offset": -0.2}) == ["offset"]


def test_alike_needs_picture_and_sound_to_agree() -> None:
    picture, sound = (1 << 255) | 0xABCDEF << 100 | 0x1234, 0x9C3A51F7
    base = Fingerprint(picture, sound, 10.0, 250)
    looks = [
        base,
        Fingerprint(picture ^ 0b1011 << 64, sound ^ 1, 10.1, 300),  # a few bits: the same
        Fingerprint(picture, sound ^ 0xFFFF, 10.0, 250),  # the same picture, another sound
        Fingerprint(picture, sound, 14.0, 350),  # longer
        Fingerprint(picture, 0, 10.0, 250),  # the same without its sound
        Fingerprint(0, sound, 10.0, 0),  # the sound alone
        Fingerprint(0, sound, 10.0, 0),
        None,
    ]
    assert alike(looks) == {1: 0, 4: 0, 6: 5}


def test_list_media_names_a_file_the_same_by_every_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.mp4").touch()
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "m.jsonl").write_text('{"path": "way/../real/a.mp4"}')
    monkeypatch.chdir(tmp_path / "way")
    ways = [list_media(path) for path in (tmp_path / "way", Path(), Path("a.mp4"), tmp_path / "m.jsonl")]
    assert ways == [[Item(str((tmp_path / "real").resolve() / "a.mp4"))]] * 4


SHARED = (Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[4] / "shared")) / "data/media").resolve()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared media folder")
@pytest.mark.parametrize("depth", ["header", pytest.param("sample", marks=pytest.mark.slow)])
def test_every_file_of_a_folder_of_odd_media_is_accounted_for(depth: str, tmp_path: Path) -> None:
    checked = run_check(SHARED, tmp_path, f"depth={depth}", "isolated=true")
    files = {path for path in SHARED.rglob("*") if path.is_file()}
    assert {(SHARED / name) for name in records_of(tmp_path, SHARED)} == files
    assert checked.summary.files == len(files) == checked.summary.status["ok"] + checked.summary.status["failed"]
    assert not checked.summary.reasons["crashed"] and not checked.summary.reasons["timeout"]
