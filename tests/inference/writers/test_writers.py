"""Every file format is valid whatever a caption, a tag or a name holds; read back by the libraries that people use."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_records import FAILED, HOSTILE, record, style, written
from pyarrow import parquet

from mmattn.config.compose import build, group_choices, read_choice
from mmattn.errors import UsageError
from mmattn.inference.writers.interface import FileFormat, FolderFormat, TrackFormat


def test_each_format_is_one_or_the_other():
    kinds = {name: style(name) for name in group_choices("format")}
    assert {name for name, each in kinds.items() if isinstance(each, TrackFormat)} == {"vtt", "srt"}
    files = {name for name, each in kinds.items() if isinstance(each, FileFormat)}
    assert files == {"jsonl", "parquet", "csv", "csv_tags", "coco"}
    folders = {name for name, each in kinds.items() if isinstance(each, FolderFormat)}
    assert folders == {"fiftyone", "huggingface"}


def test_csv_keeps_rows_and_has_no_formulas(tmp_path: Path):
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a;b\nc", "\udcff.mp4", "nul\x00"]
    records = [record(name, *HOSTILE, path=name) for name in names] + [FAILED]
    with written("csv", records, tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    for row, each in zip(rows, records, strict=True):
        assert all(cell[:1] not in ("=", "+", "@", "\t", "\r") for cell in row.values())
        assert row["id"][:1] != "-" and "\x00" not in "".join(row.values())
        assert row["status"] == each["status"]
    assert rows[0]["id"] == "'" + names[0]
    assert (rows[0]["tags"], float(rows[0]["score"]), float(rows[0]["audio"])) == ("dog", 0.9, -0.1), "numbers stay"
    assert rows[6]["id"] == "a;b\nc"
    assert (rows[-1]["reason"], rows[-1]["detail"], rows[-1]["score"]) == ("not_media", "'@x", "")


def test_a_row_a_tag_has_its_own_score_and_times(tmp_path: Path):
    tags = [
        {"tag": "Bicycle, bike", "score": 0.9, "modality": "audio", "video": 0.0, "audio": 0.9, "synergy": 0.0}
        | {"segments": [[0.5, 1.0], [2.0, 2.5]], "from": "sounds"},
        {"tag": "=cat", "score": 0.4, "video": 0.3, "audio": -0.1, "synergy": 0.2},
    ]
    with written("csv_tags", [record("a.mp4", tags=tags), record("b.mp4", tags=[]), FAILED], tmp_path).open() as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    shown = [(row["tag"], row["from"], row["modality"], row["score"], row["start"], row["end"]) for row in rows]
    assert shown == [
        ("Bicycle, bike", "sounds", "audio", "0.9", "0.5", "1.0"),
        ("Bicycle, bike", "sounds", "audio", "0.9", "2.0", "2.5"),
        ("'=cat", "", "", "0.4", "", ""),
    ]
    assert {row["id"] for row in rows} == {"a.mp4"} and rows[2]["audio"] == "-0.1"


def test_csv_says_what_annotators_tags_owe_to_each_stream(tmp_path: Path):
    tags = [
        {"tag": "x", "score": 0.8, "modality": "audio", "video": 0.0, "audio": 0.8, "synergy": 0.0},
        {"tag": "y", "score": 0.4, "modality": "video", "video": 0.4, "audio": 0.0, "synergy": 0.0},
    ]
    modality = {"used": ["video", "audio"], "shapley": None, "attention": None}
    with written("csv", [record("a.mp4", tags=tags, modality=modality)], tmp_path).open() as file:
        (row,) = csv.DictReader(file)
    assert (row["used"], row["video"], row["audio"]) == ("video; audio", "0.2", "0.4")


def test_parquet_holds_the_whole_record(tmp_path: Path):
    tags = [{"tag": "x", "score": 0.5, "modality": "audio", "video": 0.0, "audio": 0.5, "synergy": 0.0}]
    tags[0]["segments"] = [[0.5, 1.0], [2.0, 2.5]]  # type: ignore[assignment]
    given = [record("a.mp4", *HOSTILE[:12]), record("b.mp4", tags=tags), FAILED] * 700
    read = parquet.read_table(written("parquet", given, tmp_path)).to_pylist()
    assert len(read) == len(given)
    for before, after in zip(given, read, strict=True):
        assert _without_nulls(after, before) == before


def _without_nulls(row: dict, like: dict) -> dict:
    row = {name: value for name, value in row.items() if name in like}
    assert row.keys() == like.keys()
    for name in {"tags", "captions"} & row.keys():
        row[name] = [{key: v for key, v in each.items() if v is not None} for each in row[name]]
    for tag in row.get("tags", []):
        if "segments" in tag:
            tag["segments"] = [[part["start"], part["end"]] for part in tag["segments"]]
    if "spans" in row:
        row["spans"] = [[part["start"], part["end"]] for part in row["spans"]]
    return row


def test_parquet_tells_names_that_are_no_utf8(tmp_path: Path):
    (row,) = parquet.read_table(written("parquet", [record("\udcff.mp4")], tmp_path)).to_pylist()
    assert row["id"] == "\\udcff.mp4"


def test_coco_results_are_one_caption_a_file(tmp_path: Path):
    given = [record("42", "b", "a\n\n<i>"), record("007", "x"), record("0", "zero"), record("none"), FAILED]
    given.append(record("sub/\udcff.mp4", *HOSTILE))
    assert json.loads(written("coco", given, tmp_path).read_text())[:3] == [
        {"image_id": 42, "caption": "b a <i>"},
        {"image_id": "007", "caption": "x"},
        {"image_id": 0, "caption": "zero"},
    ]
    build({**read_choice("format", "coco"), "numbers": False}).write(given, tmp_path / "text")
    assert json.loads((tmp_path / "text").read_text())[0]["image_id"] == "42"
    with pytest.raises(UsageError, match="no record has one"):
        written("coco", [record("a"), FAILED], tmp_path)


def test_pycocoevalcap_reads_the_results(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth | {"info": {}, "licenses": []}))
    results = written("coco", [record("1", "a dog", "barks"), record("2", "rain")], tmp_path)
    read = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(results))
    assert {name: [each["caption"] for each in read.imgToAnns[name]] for name in (1, 2)} == {
        1: ["a dog barks"],
        2: ["rain"],
    }


@pytest.mark.parametrize("name", ["jsonl", "csv", "csv_tags", "coco", "parquet"])
def test_memory_does_not_grow_with_the_number_of_records(name: str, tmp_path: Path):
    def many(count: int) -> Iterator[dict]:
        return (record(f"{i}.mp4", "a dog barks") for i in range(count))

    style(name).write(many(2500), tmp_path / "warm")
    peaks = []
    for count in (2500, 7500):
        tracemalloc.start()
        style(name).write(many(count), tmp_path / "part")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000
