"""Manifests as other programs write them: read as they are meant, or refused with the line and what to write."""

from __future__ import annotations

import csv
import io
import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from mmattn.data.manifest.cells import listed, split_cell
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.sources import FolderSource
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.tag_list import read_tags

_ALPHABET = "abz éß犬 ,;\t|'\"&#()[]{}\\/=\n\r.«»“”"


def _texts(draw: random.Random, least: int = 1) -> list[str]:
    words = ["".join(draw.choices(_ALPHABET, k=draw.randint(1, 12))) for _ in range(draw.randint(least, 4))]
    return [word for word in words if word.strip()] or ["x"]


def _rows(seed: int, folder: Path) -> list[Row]:
    draw = random.Random(seed)
    return [
        Row(
            id="".join(draw.choices(_ALPHABET, k=6)) + str(k),
            path=folder / f"clips {k}" / "a,b.mp4",
            start=draw.choice((0.0, 0.5)),
            end=draw.choice((None, 62.25)),
            tags=tuple(_texts(draw)) if draw.random() < 0.8 else (),
            captions=tuple(_texts(draw)) if draw.random() < 0.8 else (),
            split=draw.choice((None, "train", "val", "test")),
        )
        for k in range(20)
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("seed", range(10))
def test_random_rows_read_back_as_they_were_written(seed: int, suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rows = _rows(seed, tmp_path.resolve())
    write_manifest(rows, tmp_path / f"m{suffix}")
    assert read_manifest(tmp_path / f"m{suffix}") == rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_the_csv_modules_tables_are_read_whatever_separates_encodes_and_ends_them(
    separator: str, encoding: str, ends: str, tmp_path: Path
) -> None:
    draw = random.Random(f"{separator} {encoding}")
    wanted = [[f"clips/{k}, ä;.mp4", _texts(draw), _texts(draw)] for k in range(30)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=ends)
    writer.writerow(["Path", " Tags ", "CAPTIONS", "size", "note"])
    for path, tags, captions in wanted:
        writer.writerow([path, json.dumps(tags), str(captions), "12 kB", "mine"])
    (tmp_path / "m.csv").write_bytes(out.getvalue().encode(encoding))
    found = read_manifest(tmp_path / "m.csv")
    assert [[row.id, list(row.tags), list(row.captions)] for row in found] == wanted


def _lists(strings: list[str]) -> list[str]:
    """As json, Python, numpy and pandas (whose cells are str of these) write a list."""
    array = np.array(strings)
    return [
        json.dumps(strings), json.dumps(strings, ensure_ascii=False), repr(strings), repr(tuple(strings)), str(array),
        repr(array), repr(np.array(strings, dtype=object)), str(list(array)), repr(list(array)),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_written_lists_are_lists(seed: int) -> None:
    strings = [text.replace("\n", " ").strip("\r") or "x" for text in _texts(random.Random(seed), 2)]
    for text in _lists([*strings, "and this"]):
        assert listed(text, "tags") == [*strings, "and this"] == listed(text, "captions"), text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("['cat', 'pet']", ["cat", "pet"]), ("['cat' 'pet']", ["cat", "pet"]), ('["cat", "pet"]', ["cat", "pet"]),
        ("['cat'\n 'pet']", ["cat", "pet"]), ("('cat',)", ["cat"]), ("{'cat'}", ["cat"]),
        ("{'cat', 'pet'}", ["cat", "pet"]),
        ("array(['cat', 'pet'], dtype=object)", ["cat", "pet"]), ("array(['cat'], dtype='<U3')", ["cat"]),
        ("[np.str_('cat'), np.str_('pet')]", ["cat", "pet"]), ("frozenset({'cat', 'pet'})", ["cat", "pet"]),
        ("'cat', 'pet'", ["cat", "pet"]), ('["it\'s", "a \\"b\\""]', ["it's", 'a "b"']), ("[]", []),
        ("['cat']", ["cat"]),
        ("cat", None), ("cat; pet", None), ("(sighs)", None), ("Frying (food)", None), ("rock 'n' roll", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_cell_is_a_list_or_a_text(text: str, wanted: list[str] | None) -> None:
    assert listed(text, "tags") == wanted


@pytest.mark.parametrize(
    "text", ["[cat, pet]", "['cat', 3]", "[1, 2]", "['cat', nan]", "['cat", "{cat,pet}", "['a']; ['b']", "[b'cat']",
             "['cat' ... 'pet']"],
)  # fmt: skip
def test_a_list_that_cannot_be_read_is_refused_by_line(text: str, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "tags"], ["a.mp4", "cat; dog"], ["b.mp4", text]])
    with pytest.raises(
        UsageError, match=r'm\.csv, line 3: tags .* is a list that cannot be read; write \["cat", "pet"\]'
    ):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    "text", ["[Music]", "[applause] thank you", "(laughs)", '"Stop", she said', "{x}", "he said [so]"]
)
def test_brackets_in_a_caption_are_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a", "captions": text}))
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "captions"], ["a", text]])
    assert read_manifest(tmp_path / "m.csv")[0].captions == read_manifest(tmp_path / "m.jsonl")[0].captions == (text,)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Tom &amp; Jerry", ["Tom &amp; Jerry"]),
        ("Tom &amp; Jerry; a dog", ["Tom &amp; Jerry", "a dog"]),
        ("caf&#233; &#xe9; &eacute;;x", ["caf&#233; &#xe9; &eacute;", "x"]),
        ("R&D; sales", ["R&D", "sales"]),
        ('he said "stop; go"; she left', ['he said "stop; go"', "she left"]),
        ("he said 'stop; don't'; she left", ["he said 'stop; don't'", "she left"]),
        ("don't; can't", ["don't", "can't"]),
        ('5" tall; 6" wide', ['5" tall', '6" wide']),
        ("«Wuff; wuff»; “a; b”", ["«Wuff; wuff»", "“a; b”"]),
        ("a;;b; ", ["a", "b"]),
        ("rock 'n' roll; the dogs' bowl", ["rock 'n' roll", "the dogs' bowl"]),
    ],
)
def test_semicolons_separate_outside_of_entities_and_quotes(text: str, parts: list[str]) -> None:
    assert split_cell(text, "captions") == parts


@pytest.mark.parametrize("text", [";", " ; ; ", "nan", "<NA>", "#N/A", '["cat", ""]', "['cat', ' ']"])
def test_an_empty_tag_is_refused_by_line(text: str, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "tags"], ["b.mp4", text]])
    with pytest.raises(UsageError, match=r"m\.csv, line 2: tags .*leave"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("said", "split"),
    [
        ("validation", "val"),
        ("valid", "val"),
        ("dev", "val"),
        ("Train", "train"),
        (" TEST ", "test"),
        ("training", "train"),
    ],
)
def test_splits_by_the_names_that_others_give_them(said: str, split: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,split\na.mp4,{said}\n")
    assert read_manifest(tmp_path / "m.csv")[0].split == split


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("00:01:02.5", 62.5),
        ("1:02.5", 62.5),
        ("00:01:02,500", 62.5),
        ("62.5", 62.5),
        (" 62.5 ", 62.5),
        ("1:00:00", 3600.0),
    ],
)
def test_times_as_seconds_and_as_a_clock_shows_them(said: str, seconds: float, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "end"], ["a.mp4", said]])
    assert read_manifest(tmp_path / "m.csv")[0].end == seconds


@pytest.mark.parametrize("said", ["1:75", "1m2s", "1:2:3:4", "12,5", "-1:02", "true"])
def test_another_time_is_refused_with_what_to_write(said: str, tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "end"], ["a.mp4", said]])
    with pytest.raises(UsageError, match=r"line 2: end '.*' is not a number of seconds; write 62\.5 or 00:01:02\.5"):
        read_manifest(tmp_path / "m.csv")


def test_a_size_of_your_own_is_no_byte_range(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,size,offset\na.mp4,1920x1080,\nb.tar,512,1024\n")
    own, member = read_manifest(tmp_path / "m.csv")
    assert (own.offset, own.size, member.offset, member.size) == (None, None, 1024, 512)
    (tmp_path / "m.jsonl").write_text('{"path": "a.mp4", "size": 123}')
    assert read_manifest(tmp_path / "m.jsonl")[0].size is None


def test_backslashes_are_folders_unless_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("clips/0.mp4", r"odd\name.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "m.csv").write_text("path\nclips\\0.mp4\n" + r"odd\name.mp4" + "\n")
    assert [row.path for row in read_manifest(tmp_path / "m.csv")] == [
        tmp_path / "clips/0.mp4",
        tmp_path / r"odd\name.mp4",
    ]
    (tmp_path / "list.txt").write_bytes(b".\\clips\\0.mp4 \r\n")
    assert [entry.path for entry in list_source(str(tmp_path / "list.txt")).entries] == [str(tmp_path / "clips/0.mp4")]


@pytest.mark.parametrize("path", [r"C:\videos\a.mp4", "d:/videos/a.mp4", r"\\server\share\a.mp4", "https://host/a.mp4"])
@pytest.mark.parametrize("name", ["m.csv", "list.txt"])
def test_a_path_that_cannot_be_opened_here_is_refused_by_line(path: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"path\n{path}\n")
    with pytest.raises(UsageError, match=rf"{name}, line 2: path .* (with /|write its path)$"):
        list_source(str(tmp_path / name))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_lists_and_tags_files_are_read_in_any_encoding(encoding: str, ends: str, tmp_path: Path) -> None:
    for name in ("ä.mp4", "b.mp4", "#1.mp4"):
        (tmp_path / name).touch()
    text = ends.join(("ä.mp4", "", "# comment", "b.mp4  ", "#1.mp4", ""))
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert [entry.id for entry in list_source(str(tmp_path / "list.txt")).entries] == ["ä.mp4", "b.mp4", "#1.mp4"]
    (tmp_path / "tags.txt").write_bytes(ends.join(("café\ta bar", "dog", "")).encode(encoding))
    assert read_tags(tmp_path / "tags.txt") == {"café": "a bar", "dog": "dog"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"path,tags\na,x\nb,\xe4\n", r"m\.csv, line 3: not text in UTF-8; save it as UTF-8"),
        (b"path,tags,tags\na,x,y\n", r"m\.csv: column 'tags' is there twice"),
        (b'path,tags\na,x\nb,"never closed\nc,d\n', r"m\.csv, line 3: not CSV"),
        (b'path,tags\n"a\nb",x,y\n', r"line 2: more cells"),
        (b"file;label\na;b\n", r"column 'file' is not read; did you mean 'path'"),
    ],
)
def test_what_is_no_table_is_said_with_its_line(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_manifest(tmp_path / "m.csv")


def test_a_second_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    text = '\ufeffPath;Tags\r\na.mp4;"cat; dog"\r\n'
    (tmp_path / "m.csv").write_bytes(text.encode("utf-16"))
    assert read_manifest(tmp_path / "m.csv")[0].tags == ("cat", "dog")


def test_spreadsheets_leave_a_separator_line_and_empty_rows(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sep=;\npath;start\na,b.mp4;1\n;\n\nc.mp4;x\n")
    with pytest.raises(UsageError, match=r"line 6: start 'x'"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(("written", "saved"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_in_one_character_or_in_two_is_the_same(kind: str, written: str, saved: str, tmp_path: Path) -> None:
    cell, file = unicodedata.normalize(written, "José/café.mp4"), unicodedata.normalize(saved, "José/café.mp4")
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).touch()
    tag = unicodedata.normalize(written, "über")
    text = f"path,tags\n{cell},{tag}\n" if kind == "csv" else json.dumps({"path": cell, "tags": [tag]})
    (tmp_path / f"m.{kind}").write_text(text)
    (row,) = read_manifest(tmp_path / f"m.{kind}")
    assert row.path == tmp_path / file and row.tags == ("über",)
    (tmp_path / "list.txt").write_text(cell)
    assert [entry.path for entry in list_source(str(tmp_path / "list.txt")).entries] == [str(tmp_path / file)]


def test_both_spellings_of_a_name_may_be_files(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "m.csv").write_text("path\n" + "\n".join(names))
    assert [row.path.name for row in read_manifest(tmp_path / "m.csv")] == names


def test_class_folders_that_look_the_same_are_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (folder := tmp_path / unicodedata.normalize(form, "é")).mkdir()
        (folder / "a.mp4").touch()
    assert {row.tags for row in FolderSource(str(tmp_path)).rows()} == {("é",)}
