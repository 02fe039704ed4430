"""Each record has a track of its own, where it belongs, and what others wrote stays."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hostile_records import record

from mmattn.config.compose import compose
from mmattn.errors import MmattnError, UsageError
from mmattn.inference.writers.file_names import fitting, places
from mmattn.inference.writers.formats.srt import SubRip
from mmattn.inference.writers.formats.vtt import WebVTT
from mmattn.inference.writers.interface import TrackFormat
from mmattn.inference.writers.output import Output, output_of
from mmattn.inference.writers.subtitles.tracks import Tracks


def tracks(folder: Path | None, overwrite: bool = False, style: TrackFormat | None = None) -> Tracks:
    return Tracks(style or WebVTT(), folder, overwrite)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "/",
        "a/../../b.mp4",
        "x" * 300 + ".mp4",
        "\u05e9" * 200,
        "d/" * 1500 + "x",
        "new\nline\x00.mp4",
        "\udcff.mp4",
        "\ud800.mp4",
        "a.vtt/b.mp4",
        "-rf",
    ],
)
def test_no_id_leads_out_of_the_folder(name: str, tmp_path: Path):
    folder = tmp_path / "inside" / "out"
    # "a" takes the name that a folder of "a.vtt/b.mp4" would have
    counts = tracks(folder).write([record("a", "first"), record(name, "said")], tmp_path / "ledger")
    assert counts["written"] == 2
    assert len(names_in(folder)) == 2
    assert names_in(tmp_path) == sorted([*(f"inside/out/{each}" for each in names_in(folder)), "ledger"])
    assert all(len(os.fsencode(part)) <= 255 for each in names_in(folder) for part in each.split("/"))


def test_records_whose_names_meet_get_a_file_each(tmp_path: Path):
    folder = tmp_path / "out"
    ids = ["a.mp4", "a.mkv", "b\x00.mp4", "b\x01.mp4", "b\x02.mp4", "v1.2"]
    given = [record(name, f"of {i}") for i, name in enumerate(ids)]
    given[-1]["path"] = "/films/clip.mp4"
    for _ in range(2):
        assert tracks(folder).write(given, tmp_path / "ledger") == Counter(written=6)
        assert names_in(folder) == ["a.mkv.vtt", "a.vtt", "b_.mp4.2.vtt", "b_.mp4.vtt", "b_.vtt", "v1.2.vtt"]
        assert "of 0" in (folder / "a.vtt").read_text() and "of 1" in (folder / "a.mkv.vtt").read_text()


def test_long_names_stay_apart_and_short_ones_stay():
    one, other = fitting("x" * 300 + "1", ".vtt"), fitting("x" * 300 + "2", ".vtt")
    assert one != other and len(one) == len(other) == 255
    assert fitting("a", ".vtt") == "a.vtt"
    assert len(os.fsencode(fitting("\u05e9" * 200, ".vtt"))) <= 255
    place = next(places(record("x", path="/films/" + "x" * 251 + ".mp4"), None, ".longer"))
    assert place.parent == Path("/films") and len(place.name) <= 255


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MmattnError, match="leads out of"):
        tracks(tmp_path / "out").write([record("sub/a.mp4", "x")], tmp_path / "ledger")
    assert not names_in(tmp_path / "elsewhere")
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "out" / "b.vtt").symlink_to(outside)
    assert tracks(tmp_path / "out").write([record("b.mp4", "x")], tmp_path / "ledger") == Counter(kept=1)
    assert tracks(tmp_path / "out", overwrite=True).write([record("b.mp4", "x")], tmp_path / "ledger")["written"] == 1
    assert outside.read_text() == "mine" and not (tmp_path / "out" / "b.vtt").is_symlink()


def test_what_others_wrote_beside_a_video_stays(tmp_path: Path):
    def given(text: str) -> list[dict]:
        return [record(name, text, path=str(tmp_path / name)) for name in ("a.mp4", "b.mp4", "c.mp4")]

    (tmp_path / "a.vtt").write_text("a person's work")
    (tmp_path / "b.vtt").mkdir()
    ledger = tmp_path / "ledger"
    for _ in range(2):
        assert tracks(None).write(given("one"), ledger) == Counter(kept=2, written=1)
    assert (tmp_path / "a.vtt").read_text() == "a person's work"
    assert tracks(None).write(given("two"), ledger)["written"] == 1, "its own it may replace"
    assert "two" in (tmp_path / "c.vtt").read_text()
    (tmp_path / "c.vtt").write_text("corrected by hand")
    assert tracks(None).write(given("three"), ledger) == Counter(kept=3)
    assert tracks(None, overwrite=True).write(given("four"), ledger) == Counter(kept=1, written=2)
    assert "four" in (tmp_path / "a.vtt").read_text() and (tmp_path / "b.vtt").is_dir()
    ledger.unlink()
    assert tracks(None).write(given("four"), ledger)["written"] == 2, "what is the same anyway needs no leave"


def test_tracks_of_earlier_answers_go_with_them(tmp_path: Path):
    folder, ledger = tmp_path / "out", tmp_path / "ledger"
    tracks(folder).write([record("a.mp4", "x"), record("b.mp4", "x"), record("c.mp4", "x")], ledger)
    tracks(folder, style=SubRip()).write([record("a.mp4", "x")], ledger)
    (folder / "c.vtt").write_text("changed by a person")
    assert tracks(folder).write([record("a.mp4", "x"), record("b.mp4")], ledger) == Counter(written=1, nothing=1)
    assert names_in(folder) == ["a.srt", "a.vtt", "c.vtt"]


def output(**settings: object) -> Output:
    return output_of({**compose("predict", ["run=r", "source=s"]), **settings})


@pytest.mark.parametrize("asked", ["tracks", "burn_in"])
def test_members_of_a_tar_are_refused_before_any_work(asked: str, tmp_path: Path):
    wanted = output(**{asked: "beside" if asked == "tracks" else str(tmp_path / "burnt")}, out=tmp_path / "o.jsonl")
    with pytest.raises(UsageError, match=r"000\.tar"):
        wanted.check([tmp_path / "000.tar"])


@pytest.mark.parametrize("asked", ["out", "tracks", "beside", "burn_in"])
def test_a_place_that_takes_no_files_is_refused_before_any_work(asked: str, tmp_path: Path):
    """/proc takes none, not even from root."""
    there = Path("/proc/self/fdinfo") if asked == "beside" else Path("/proc/self/new")
    settings: dict[str, object] = {"out": tmp_path / "o.jsonl"}
    settings |= (
        {"tracks": "beside"} if asked == "beside" else {asked: str(there / "x.jsonl" if asked == "out" else there)}
    )
    with pytest.raises(UsageError, match=r"cannot write in /proc/\S+ \(.+\); name another folder"):
        output(**settings).check([there / "a.mp4" if asked == "beside" else tmp_path / "a.mp4"])


def test_places_that_take_files_are_not_touched(tmp_path: Path):
    (tmp_path / "in").mkdir()
    wanted = output(out=tmp_path / "new" / "o.jsonl", tracks="beside", burn_in=str(tmp_path / "burnt"))
    wanted.check([tmp_path / "in" / "a.mp4", tmp_path / "gone" / "b.mp4"])
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_a_damaged_ledger_is_one_line(tmp_path: Path):
    (tmp_path / "ledger").write_bytes(b"no database" * 100)
    with pytest.raises(MmattnError, match="cannot be used"):
        tracks(tmp_path / "out").write([record("a.mp4", "x")], tmp_path / "ledger")
