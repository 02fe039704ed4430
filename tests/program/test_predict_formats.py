"""mmattn predict format=...: one job, any output of it, and tracks beside the videos."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import webvtt
from pyarrow import parquet

import mmattn
from mmattn.cli.main import main
from mmattn.inference.records.result import schema

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def captioning(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("captioning") / "run"
    options = ["captions=transformer", "captions.layers=1", "captions.tokenizer.kind=word"]
    options += ["captions.decoding.method=greedy", "captions.decoding.min_length=3", "captions.decoding.max_length=8"]
    assert main(["train", *small, *options, "logger=none", "trainer.epochs=1", f"run={run}"]) == 0
    return run


@pytest.fixture
def films(shapes: Path, tmp_path: Path) -> Path:
    root = tmp_path / "films"
    (root / "sub").mkdir(parents=True)
    shutil.copy(shapes / "clips" / "000000.mp4", root / "a.mp4")
    shutil.copy(shapes / "clips" / "000001.mp4", root / "sub" / "=b.mp4")
    (root / "bad.mp4").write_text("no film")
    return root


def test_another_format_is_written_from_the_answers_that_are_there(
    captioning: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p"
    command = ["predict", f"run={captioning}", f"source={films}", f"out={out}"]
    assert main([*command, "threshold=0.2"]) == 0
    lines = out.read_bytes()
    records = [json.loads(line) for line in lines.splitlines()]
    assert [record["id"] for record in records] == ["a.mp4", "bad.mp4", "sub/=b.mp4"]
    for record in records:
        jsonschema.validate(record, schema())
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "p.job" / "done").iterdir()}
    capsys.readouterr()

    assert main([*command, "threshold=0.2", "format=csv"]) == 0
    assert "nothing new" in capsys.readouterr().out
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a.mp4", "bad.mp4", "sub/=b.mp4"]
    assert rows[0]["captions"] == records[0]["captions"][0]["text"] and rows[1]["reason"] == "not_media"
    stamp = out.stat().st_mtime_ns
    assert main([*command, "threshold=0.2", "format=csv"]) == 0
    assert out.stat().st_mtime_ns == stamp, "the same again does nothing"
    assert main([*command, "threshold=0.2"]) == 0
    assert out.read_bytes() == lines
    (tmp_path / "p.job" / "written.json").unlink()  # as if killed before the output was written
    out.write_text("of earlier answers")
    assert main([*command, "threshold=0.2"]) == 0
    assert out.read_bytes() == lines

    job = f"job={tmp_path / 'p.job'}"
    other = ["predict", f"run={captioning}", f"source={films}", "threshold=0.2", job]
    assert main([*other, "format=parquet", f"out={tmp_path / 'p.parquet'}"]) == 0
    table = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["captions"][0]["words"][0]["word"] for row in (table[0], table[2])] == [
        record["captions"][0]["words"][0]["word"] for record in (records[0], records[2])
    ]
    for _ in range(2):
        assert main([*other, "format=huggingface", f"out={tmp_path / 'hf'}"]) == 0
    assert parquet.read_table(tmp_path / "hf" / "train.parquet").to_pylist() == table
    assert main([*other, "format=coco", f"out={tmp_path / 'p.json'}"]) == 0
    results = json.loads((tmp_path / "p.json").read_text())
    assert [each["image_id"] for each in results] == ["a.mp4", "sub/=b.mp4"]
    assert not (tmp_path / "p.parquet.job").exists()
    assert {path: path.stat().st_mtime_ns for path in done} == done

    predictor = mmattn.load(captioning)
    predictor.threshold = 0.2
    result = predictor(films / "a.mp4")
    assert {"id": "a.mp4", **result.to_dict()} == records[0], "nothing is lost in the typed result"
    assert result.captions[0].text in result._repr_html_() or len(result.captions[0].words) > 1


def test_tracks_lie_beside_the_videos_or_in_a_folder(
    captioning: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (films / "a.vtt").write_text("a person's")
    before = (films / "a.mp4").read_bytes()
    out = tmp_path / "p.jsonl"
    command = ["predict", f"run={captioning}", f"source={films}", f"out={out}"]
    assert main([*command, "tracks=beside"]) == 0
    said = capsys.readouterr().out
    assert "1 track; 1 track of others kept; overwrite_tracks=true replaces them" in said
    assert sorted(path.name for path in films.rglob("*.vtt")) == ["=b.vtt", "a.vtt"]
    assert (films / "a.vtt").read_text() == "a person's"
    texts = {json.loads(line)["id"]: json.loads(line).get("captions") for line in out.read_text().splitlines()}
    (cue,) = webvtt.read(films / "sub" / "=b.vtt")
    assert cue.text == texts["sub/=b.mp4"][0]["text"] and (cue.start, cue.end) == ("00:00:00.000", "00:00:03.000")
    assert main([*command, "tracks=beside", "overwrite_tracks=true"]) == 0
    assert webvtt.read(films / "a.vtt")[0].text == texts["a.mp4"][0]["text"]

    folder = tmp_path / "tracks"
    assert main([*command[:-1], "format=srt", f"out={folder}", f"job={out}.job"]) == 0
    assert "nothing new -> " in capsys.readouterr().out
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.srt")) == ["a.srt", "sub/=b.srt"]

    drawn = tmp_path / "drawn"
    assert main([*command, "threshold=0.0", f"out={out}", f"burn_in={drawn}", "resume=false", "burn_in_height=64"]) == 0
    assert "; 2 videos with text drawn in" in capsys.readouterr().out
    assert sorted(str(path.relative_to(drawn)) for path in drawn.rglob("*.*")) == ["a.mp4", "sub/=b.mp4"]
    assert (films / "a.mp4").read_bytes() == before
    assert sorted(path.name for path in films.iterdir()) == ["a.mp4", "a.vtt", "bad.mp4", "sub"]


def test_a_wrong_wish_is_one_line(trained: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("mine")
    command = ["predict", f"run={trained}", f"source={films}"]
    for more, says in (
        (["out=t.csv"], "add format=csv"),
        (["out=t.CSV", "format=parquet"], "add format=csv"),
        (["out=t.parquet", "format=csv_tags"], "add format=parquet"),
        (["out=t.jsonl", "format=csv"], "add format=jsonl"),
        (["out=t.json", "format=csv"], "add format=coco"),
        (["out=t.csv", "format=vtt"], "a folder of .vtt files; add format=csv"),
        (["out=t.srt", "format=vtt"], "add format=srt"),
        (["out=t.csv", "format=fiftyone"], "a folder of its own files; add format=csv"),
        (["format=fiftyone", f"out={tmp_path / 'file'}"], "is a file; out= names the folder for the data.json"),
        (["format=huggingface", f"out={tmp_path / 'folder'}"], "holds precious, which the format does not write"),
        (["format=cvs"], "did you mean csv"),
        (["format=vtt", f"out={tmp_path / 'file'}"], "is a file; out= names the folder"),
        (["format=csv", f"out={tmp_path / 'folder'}"], "is a directory"),
        (["track_format=csv", "tracks=beside", f"out={tmp_path / 'p'}"], "expected srt or vtt"),
        (["tracks=beside", "track_format=ass", f"out={tmp_path / 'p'}"], "expected srt or vtt"),
        ([f"tracks={tmp_path / 'file'}", f"out={tmp_path / 'p'}"], "expected beside, or a folder"),
        ([f"burn_in={films / 'drawn'}", f"out={tmp_path / 'p'}"], "lies in the source"),
        ([f"source={films}/**/*.mp4", f"burn_in={films / 'drawn'}", f"out={tmp_path / 'p'}"], "lies in the source"),
        (["burn_in=d", "burn_in_height=1", f"out={tmp_path / 'p'}"], "expected 64 to 2160"),
        ([f"job={tmp_path / 'folder'}", "resume=false", f"out={tmp_path / 'p'}"], "is not a job of mmattn predict"),
        ([f"job={tmp_path / 'file'}", "resume=false", f"out={tmp_path / 'p'}"], "is a file; name a folder"),
    ):
        assert main([*command, *more]) == 2, more
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, more
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "films", "folder"]
    assert (tmp_path / "folder" / "precious").read_text() == "mine"


def test_what_cannot_be_written_leaves_what_was_there(
    trained: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "p"
    command = ["predict", f"run={trained}", f"source={films}", f"out={out}"]
    assert main(command) == 0
    lines = out.read_bytes()
    assert main([*command, "format=coco"]) == 2
    assert "no record has one" in capsys.readouterr().err
    assert out.read_bytes() == lines and {path.name for path in tmp_path.iterdir()} == {"films", "p", "p.job"}
    assert main([*command, "tracks=beside"]) == 0
    assert "0 tracks; 2 files with nothing to show over time" in capsys.readouterr().out
