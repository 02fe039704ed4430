"""Folders for other tools: FiftyOne's JSON as its importer reads it, Hugging Face's by its own library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from record_kinds import ANNOTATED, FAILED, KINDS, NOTHING_FOUND, TRAINED

from mmattn.config.compose import build, read_choice
from mmattn.files import folder_beside


def written(name: str, records: list[dict[str, Any]], folder: Path) -> Path:
    style = build(read_choice("format", name))
    with folder_beside(folder) as part:
        style.write(iter(records), part)
    assert sorted(path.name for path in folder.iterdir()) == sorted(style.names)
    return folder


def test_fiftyone_is_told_where_each_file_is_and_when_each_tag_lasts(tmp_path: Path) -> None:
    odd = {**TRAINED, "path": "/films/\udcff.v1.mp4", "id": "odd"}
    folder = written("fiftyone", [TRAINED, FAILED, ANNOTATED, NOTHING_FOUND, odd], tmp_path / "out")
    data = json.loads((folder / "data.json").read_text())
    labels = json.loads((folder / "labels.json").read_text())
    paths = [each["path"] for each in (TRAINED, ANNOTATED, NOTHING_FOUND)]
    assert list(data.values()) == [*paths, "/films/\\udcff.v1.mp4"]
    assert data.keys() == labels["labels"].keys() and not any("." in name for name in data)
    first, second, third, _ = labels["labels"].values()
    assert [(labels["classes"][each["label"]], each["timestamps"]) for each in first] == [
        ("rain", [0.0, 1.5]),
        ("rain", [2.0, 3.0]),
    ]
    assert (second[1]["confidence"], second[1]["attributes"]) == (0.8, {"modality": "audio", "from": "sounds"})
    assert third is None and len(set(labels["classes"])) == len(labels["classes"])
    empty = written("fiftyone", [FAILED], tmp_path / "empty")
    assert json.loads((empty / "labels.json").read_text()) == {"labels": {}, "classes": []}
    assert json.loads((empty / "data.json").read_text()) == {}


def test_hugging_face_reads_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    records = list(KINDS.values())
    folder = written("huggingface", records, tmp_path / "out")
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert [row["path"] for row in rows] == [record["path"] for record in records]
    annotated = rows[1]
    assert [word["word"] for word in annotated["transcript"][0]["words"]] == [" Good", " evening,", " everyone."]
    assert annotated["tags"][1]["segments"] == [{"start": 7.0, "end": 9.0}]
    assert annotated["versions"][1] == {"key": "sounds", "value": "yamnet 1"} and rows[3]["reason"] == "not_media"


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    folder = written("fiftyone", [TRAINED], tmp_path / "out")
    before = (folder / "labels.json").read_bytes()

    def broken() -> Any:
        yield ANNOTATED
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), folder_beside(folder) as part:
        build(read_choice("format", "fiftyone")).write(broken(), part)
    assert (folder / "labels.json").read_bytes() == before
    written("fiftyone", [ANNOTATED], folder)
    assert (folder / "labels.json").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
