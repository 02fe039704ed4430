"""Manifests in three formats: the same rows, and every fault named with its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import COLUMNS, Row, read_manifest
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.types import ByteRange

RECORDS: list[dict[str, Any]] = [
    {"path": "a.mp4"},
    {"id": "member", "path": "shard.tar", "offset": 0, "size": 5000000000},
    {
        "id": "second",
        "path": "sub/b.mp4",
        "start": 1.5,
        "end": 4,
        "tags": ["dog", "loud; not split"],
        "captions": ["A dog."],
        "split": "val",
        "families": {"dog": "video"},
        "segments": [["dog", 0.5, 1.25], ["quiet", 1.25, 4]],
        "note": "other columns are yours",
    },
]


def _jsonl(path: Path, records: list[dict]) -> Path:
    file = path / "manifest.jsonl"
    file.write_text("\n\n".join(json.dumps(record) for record in records) + "\n")
    return file


def _csv(path: Path, records: list[dict]) -> Path:
    file = path / "manifest.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, sorted({key for record in records for key in record}))
        writer.writeheader()
        for record in records:
            writer.writerow(
                {
                    key: "; ".join(v)
                    if key in ("tags", "captions")
                    else json.dumps(v)
                    if isinstance(v, (dict, list))
                    else v
                    for key, v in record.items()
                }
            )
    return file


def _parquet(path: Path, records: list[dict]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = path / "manifest.parquet"
    kinds = {"families": pyarrow.map_(pyarrow.string(), pyarrow.string())}
    names = sorted({key for record in records for key in record})
    columns = {}
    for name in names:
        values = [record.get(name) for record in records]
        values = [list(value.items()) if isinstance(value, dict) else value for value in values]
        if name == "segments":
            values = [
                value and [dict(zip(("label", "start", "end"), each, strict=True)) for each in value]
                for value in values
            ]
        columns[name] = pyarrow.array(values, kinds.get(name))
    parquet.write_table(pyarrow.table(columns), file)
    return file


FORMATS = [_jsonl, _csv, _parquet]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_rows(write: Callable, tmp_path: Path) -> None:
    records = json.loads(json.dumps(RECORDS))
    records[2]["tags"] = ["dog", "loud"]  # a CSV cell separates by semicolons
    assert read_manifest(write(tmp_path, records)) == [
        Row(id="a.mp4", path=tmp_path / "a.mp4"),
        Row(id="member", path=tmp_path / "shard.tar", offset=0, size=5000000000),
        Row(
            id="second",
            path=tmp_path / "sub/b.mp4",
            start=1.5,
            end=4.0,
            tags=("dog", "loud"),
            captions=("A dog.",),
            split="val",
            families={"dog": "video"},
            segments=(LabelledSegment("dog", 0.5, 1.25), LabelledSegment("quiet", 1.25, 4.0)),
        ),
    ]


def test_a_text_is_split_in_csv_alone(tmp_path: Path) -> None:
    records = [{"path": "c", "tags": " x ;; y;"}]
    assert read_manifest(_jsonl(tmp_path, [RECORDS[2], *records]))[1].tags == (" x ;; y;",)
    assert read_manifest(_parquet(tmp_path, records))[0].tags == (" x ;; y;",)
    (tmp_path / "m.csv").write_text("path,tags\nc, x ;; y;\n")
    assert read_manifest(tmp_path / "m.csv")[0].tags == ("x", "y")


def test_a_null_is_an_absent_value(tmp_path: Path) -> None:
    """As tables with gaps are written by pandas and others."""
    record = dict.fromkeys(COLUMNS) | {"path": "a"}
    assert read_manifest(_jsonl(tmp_path, [record])) == [Row(id="a", path=tmp_path / "a")]


def test_media_is_the_file_or_the_member_of_a_tar(tmp_path: Path) -> None:
    file, member, _ = read_manifest(_jsonl(tmp_path, RECORDS))
    assert file.media == tmp_path / "a.mp4"
    assert member.media == ByteRange(tmp_path / "shard.tar", 0, 5000000000)


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    (row,) = read_manifest(_jsonl(tmp_path, [{"path": "/elsewhere/a.mp4"}]))
    assert row.path == Path("/elsewhere/a.mp4")


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("﻿path,tags\r\nä.mp4,dög\r\n".encode())
    (row,) = read_manifest(tmp_path / "m.csv")
    assert (row.id, row.tags) == ("ä.mp4", ("dög",))


@pytest.mark.parametrize("name", ["path,label,tags", "path,file,label,tags,caption,captions"])
def test_a_column_of_your_own_may_stand_beside_the_one_it_resembles(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(name + "\n" + ",".join("x" for _ in name.split(",")) + "\n")
    (row,) = read_manifest(tmp_path / "m.csv")
    assert row.tags == ("x",)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_what_is_written_reads_back(suffix: str, tmp_path: Path) -> None:
    rows = [
        Row(id="plain", path=tmp_path / "a.mp4"),
        Row(
            id="all, of it",
            path=Path('/elsewhere/"ä\n.tar'),
            start=0.1,
            end=2.0,
            tags=("dog", "sync/in_time"),
            captions=("Two dogs, one bark.", "«Wuff»"),
            split="test",
            families={"dog": "video"},
            segments=(LabelledSegment("dog", 0.1, 0.2),),
            offset=512,
            size=99,
        ),
    ]
    file = tmp_path / f"m{suffix}"
    assert write_manifest(iter(rows), file) == 2
    assert read_manifest(file) == rows
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    (tmp_path / "moved").mkdir()
    file.rename(tmp_path / "moved" / file.name)
    moved = read_manifest(tmp_path / "moved" / file.name)
    assert moved[0].path == tmp_path / "moved/a.mp4", "media below the manifest go with it"
    assert moved[1].path == rows[1].path


def test_more_rows_than_are_held_at_once_keep_their_order(tmp_path: Path) -> None:
    rows = [Row(id=str(i), path=tmp_path / f"{i}.mp4") for i in range(20_000)]
    write_manifest(rows, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == rows


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("m.txt", Row(id="a", path=Path("/a")), "a manifest ends in"),
        ("m.csv", Row(id="a", path=Path("/\udcff")), r"not UTF-8.*write a \.jsonl"),
        ("m.parquet", Row(id="a", path=Path("/\udcff")), r"not UTF-8.*write a \.jsonl"),
    ],
    ids=str,
)
def test_what_a_format_cannot_hold_is_said_and_the_old_file_stays(
    name: str, row: Row, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(UsageError, match=says):
        write_manifest([Row(id="first", path=Path("/b")), row], tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


def test_a_name_that_is_no_utf8_survives_jsonl(tmp_path: Path) -> None:
    rows = [Row(id="odd", path=tmp_path / "\udcff.mp4")]
    write_manifest(rows, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == rows


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({}, "no 'path'"),
        ({"file": "a"}, "column 'file' is not read; did you mean 'path'?"),
        ({"sound": "a"}, "no 'path'; found sound"),
        ({"path": "a", "caption": "x"}, "did you mean 'captions'"),
        ({"path": "a", "label": "x"}, "did you mean 'tags'"),
        ({"path": "a", "Split": "x"}, "split 'x' is none of train, val, test"),
        ({"path": "a", "Split": "train", "SPLIT ": "val"}, "columns 'Split' and 'SPLIT ' are both 'split'"),
        ({"path": "a", "captoins": ["x"]}, "did you mean 'captions'"),
        ({"path": "a", "segments": ["x", 0, 1]}, "segments must be a list of [label, start s, end s]"),
        ({"path": "a", "segments": [["x", 2, 1]]}, "segments must be"),
        ({"path": "a", "segments": [["x", 0]]}, "segments must be"),
        ({"path": "a", "segments": [[3, 0, 1]]}, "segments must be"),
        ({"path": "a", "segments": "x"}, "segments must be"),
        ({"path": "a", "segments": 3}, "segments must be"),
        ({"path": ""}, "no 'path'"),
        ({"path": 3}, "no 'path'"),
        ({"path": "a", "split": "later"}, "train, val, test"),
        ({"path": "a", "split": 1}, "train, val, test"),
        ({"path": "a", "start": "soon"}, "start 'soon' is not a number"),
        ({"path": "a", "start": -1}, "start -1"),
        ({"path": "a", "end": float("nan")}, "end nan"),
        ({"path": "a", "end": float("inf")}, "end inf"),
        ({"path": "a", "start": 3, "end": 3}, "end 3.0 s is not after start 3.0 s"),
        ({"path": "a", "tags": 3}, "tags must be"),
        ({"path": "a", "tags": ["x", 3]}, "tags must be"),
        ({"path": "a", "captions": {"en": "x"}}, "captions must be"),
        ({"path": "a", "families": "video"}, "families must be"),
        ({"path": "a", "families": ["video"]}, "families must be"),
        ({"path": "a", "families": 3}, "families must be"),
        ({"path": "a", "offset": 512}, "offset without size"),
        ({"path": "a", "tags": ["x", " "]}, "holds an empty text"),
        ({"path": "a", "captions": ""}, "holds an empty text"),
        ({"path": "a", "offset": -1, "size": 5}, "offset -1 is not a whole number of bytes, 0 or more"),
        ({"path": "a", "offset": 0, "size": 0}, "size 0 is not a whole number of bytes, 1 or more"),
        ({"path": "a", "offset": 0.5, "size": 5}, "offset 0.5 is not"),
        ({"path": "a", "offset": True, "size": 5}, "offset True is not"),
        ({"path": "a", "offset": "x", "size": 5}, "offset 'x' is not"),
        ({"path": "a", "offset": 0, "size": float("inf")}, "size inf is not"),
        ({"path": "good"}, "id 'good' was used in line 1"),
        ({"path": "b", "id": "good"}, "id 'good' was used in line 1"),
    ],
    ids=str,
)
def test_a_fault_is_named_with_its_line(record: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_manifest(_jsonl(tmp_path, [{"path": "good"}, record]))
    assert "line 3: " in str(error.value), "the empty line between counts"
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.jsonl", b'{"path": "a"}\n{"path": \n', r"line 2: not JSON"),
        ("m.jsonl", b'["a"]\n', r"line 1: expected an object with a path, found list"),
        ("m.jsonl", b"", r"no rows"),
        ("m.jsonl", b"\n\n", r"no rows"),
        ("m.jsonl", b'{"path": "\xff"}\n', r"m\.jsonl"),
        ("m.csv", b"", r"no column 'path'; found no header"),
        ("m.csv", b"sound,tags\na,b\n", r"no column 'path'; found sound, tags"),
        ("m.csv", b"path,tag\na,b\n", r"m\.csv: column 'tag' is not read; did you mean 'tags'"),
        ("m.csv", b"path,tags\n", r"no rows"),
        ("m.csv", b"path,start\na,1\nb,x\n", r"line 3: start 'x'"),
        ("m.csv", b"path,tags\na,b,c\n", r"line 2: .*more"),
        ("m.csv", b"path,tags\n\xff,b\n", r"m\.csv"),
        ("m.parquet", b"PAR1 no", r"m\.parquet"),
        ("m.parquet", b"", r"m\.parquet"),
        ("m.txt", b"a\n", r"a manifest ends in \.jsonl"),
        ("missing.csv", None, r"missing\.csv"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_read_is_one_line(name: str, content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says) as error:
        read_manifest(tmp_path / name)
    assert "\n" not in str(error.value)
