"""Tables and lists that hold what nothing can use, or one file under two names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.inference.jobs.listing import list_source


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"path": "a\\u0000.mp4"}', "path .* holds a zero byte"),
        ('{"path": "a\\ud800.mp4"}', "path .* holds half a character"),
        ('{"path": "a", "tags": ["\\ud83d"]}', "tags .* holds half a character"),
        ('{"path": "a", "id": " "}', "id ' ' is empty; leave it out"),
        ('{"path": "a"},', "not JSON .*; write one object a line"),
        ('[{"path": "a"}]', "expected .* found list; write one object a line"),
        ('{"path": "a", "mine": ' + "[" * 100_000 + "]" * 100_000 + "}", "not JSON that can be read"),
        ('{"path": "a", "start": ' + 5000 * "9" + "}", "not JSON that can be read"),
    ],
    ids=lambda text: text[:40],
)
def test_what_json_may_hold_and_nothing_can_use_is_refused_by_line(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "good"}\n' + line)
    with pytest.raises(UsageError, match=rf"m\.jsonl, line 2: {says}") as error:
        read_manifest(tmp_path / "m.jsonl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["m.csv", "list.txt"])
def test_a_zero_byte_is_not_taken_for_utf16(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"path\na.mp4\nb\0.mp4\n")
    with pytest.raises(UsageError, match=rf"{name}, line 3: path 'b\\x00.mp4' holds a zero byte"):
        list_source(str(tmp_path / name))


@pytest.mark.parametrize("other", ["./a.mp4", ".//a.mp4", "{folder}/a.mp4", "{folder}//./a.mp4"])
@pytest.mark.parametrize("name", ["m.csv", "list.txt"])
def test_one_file_under_two_names_is_refused_by_line(name: str, other: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text(f"path\na.mp4\nsub/a.mp4\n{other.format(folder=tmp_path)}\n")
    with pytest.raises(UsageError, match=rf"{name}, line 4: '.*' is the file of line 2; "):
        list_source(str(tmp_path / name))


def test_rows_with_ids_may_be_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,path,start,end\none,a.mp4,0,1\ntwo,./a.mp4,1,2\n")
    assert [row.id for row in read_manifest(tmp_path / "m.csv")] == ["one", "two"]


def test_a_list_from_an_old_mac_has_lines_and_a_name_may_hold_their_ends(tmp_path: Path) -> None:
    for content, names in ((b"a.mp4\rb.mp4\r", ["a.mp4", "b.mp4"]), (b"a\rb.mp4\nc.mp4\r\n", ["a\rb.mp4", "c.mp4"])):
        (tmp_path / "list.txt").write_bytes(content)
        assert [entry.id for entry in list_source(str(tmp_path / "list.txt")).entries] == names


def test_quotes_after_a_space_are_quotes_where_the_header_has_spaces_too(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('path, tags, captions\na.mp4, "x; y", "one, ""two"""\n')
    (row,) = read_manifest(tmp_path / "m.csv")
    assert (row.tags, row.captions) == (("x", "y"), ('one, "two"',))


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    rows = [Row("a", tmp_path / "a.mp4", segments=tuple(LabelledSegment("word", k, k + 0.5) for k in range(20_000)))]
    write_manifest(rows, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").stat().st_size > 1 << 17
    assert read_manifest(tmp_path / "m.csv") == rows
