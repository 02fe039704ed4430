"""What a source holds: every file once, with a stable id."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mmattn.errors import UsageError
from mmattn.inference.jobs.listing import list_source, reaches


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
        with pytest.raises(UsageError, match=r"line 2: 'a.mp4' is the file of line 1; list every file once"):
            list_source(str(tmp_path / "list.txt"))

    def test_nothing_to_work_on_is_said(self, tmp_path: Path):
        (tmp_path / "a.txt.md").write_text("x")
        for source in (tmp_path, tmp_path / "*.mp4", tmp_path / "absent"):
            with pytest.raises(UsageError, match=r"holds no files to work on|no such file"):
                list_source(str(source))


@pytest.mark.parametrize("name", ["m.tsv", "list.json", "m.XLSX", "clips.lst"])
def test_a_list_of_another_kind_is_refused_with_what_lists_are_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("path\na.mp4\n")
    with pytest.raises(UsageError, match=r"a list of files ends in \.txt, a manifest in \.jsonl"):
        list_source(str(tmp_path / name))


def test_links_to_folders_are_not_followed_and_counted(tmp_path: Path):
    (tmp_path / "films" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.mp4").touch()
    (tmp_path / "films" / "linked").symlink_to("../elsewhere")
    (tmp_path / "films" / "deep" / "up").symlink_to("..")
    with pytest.raises(UsageError, match=r"left out: 2 linking to a folder"):
        list_source(str(tmp_path / "films"))
    (tmp_path / "films" / "a.mp4").touch()
    found = list_source(str(tmp_path / "films"))
    assert [entry.id for entry in found.entries] == ["a.mp4"]
    assert found.skipped == {"linking to a folder": 2}
