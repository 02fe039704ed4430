"""What annotators found becomes a manifest, and a small model learns from it how sure they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.build import build_data
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.write import write_manifest

LOUD = {"tag": "dog, barking", "score": 0.9, "from": "sounds", "segments": [[0.0, 0.5], [2.2, 3.0]]}
FAINT = {"tag": "wind", "score": 0.55, "from": "sounds", "segments": [[0.9, 1.6]]}
SEEN = {"tag": "cat", "score": 0.7, "from": "things"}
UNSURE = {"tag": "fire", "score": 0.3, "from": "sounds"}


def record(path: Path, *tags: dict) -> dict:
    modality = {"used": ["audio"], "shapley": None, "attention": None}
    return {"path": str(path), "status": "ok", "tags": list(tags), "modality": modality, "spans": [[0.0, 3.1]]} | {
        "issues": []
    }


def write_library(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    failed = {"path": str(tmp_path / "x.mp4"), "status": "failed", "reason": "not_media", "detail": ""}
    found = [record(tmp_path / f"{n}.mp4", LOUD, *([FAINT, SEEN] if n % 2 else [UNSURE])) for n in range(10)]
    return write_library(tmp_path / "library.jsonl", *found, record(tmp_path / "none.mp4", UNSURE), failed)


def label(*arguments: str) -> int:
    return main(["data", "label", *arguments])


def test_sure_tags_become_targets_and_the_rest_is_counted(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "manifest.jsonl"
    assert label(f"from={library}", f"out={out}") == 0
    said = capsys.readouterr().out
    assert "10 clips" in said and "3 tags" in said and "1 failed" in said and "1 without a sure tag" in said
    rows = {row.path.name: row for row in read_manifest(out)}
    assert rows["1.mp4"].tag_scores == {"dog, barking": 0.9, "wind": 0.55, "cat": 0.7}
    assert rows["2.mp4"].tags == ("dog, barking",)
    assert {row.split for row in rows.values()} == {"train", "val"}
    assert label(f"from={library}", f"out={out}", "annotators=things", "min_score=0.6") == 0
    assert {tag for row in read_manifest(out) for tag in row.tags} == {"cat"}


def test_clips_of_a_file_have_the_tags_of_their_time(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest.csv"
    assert label(f"from={library}", f"out={out}", "seconds=1") == 0
    mine = [row for row in read_manifest(out) if row.path.name == "1.mp4"]
    assert [(row.start, row.end) for row in mine] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert [set(row.tags) for row in mine] == [
        {"dog, barking", "wind", "cat"},
        {"wind", "cat"},
        {"dog, barking", "cat"},
    ]
    assert len({row.split for row in mine}) == 1, "all clips of a file are in one split"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_manifest_keeps_how_sure_tags_are(suffix: str, tmp_path: Path) -> None:
    rows = [Row("a", tmp_path / "a.mp4", tags=("x, y", "z"), tag_scores={"x, y": 0.25}), Row("b", tmp_path / "b.mp4")]
    write_manifest(rows, tmp_path / f"m{suffix}")
    assert read_manifest(tmp_path / f"m{suffix}") == rows


@pytest.mark.parametrize(
    ("value", "says"), [({"x": 2}, "expected 0 to 1"), ({"y": 0.5}, "not among the tags"), ([1], "an object of tag")]
)
def test_scores_that_cannot_be_are_refused_with_their_line(
    value: object, says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.mp4", "tags": ["x"], "tag_scores": value}) + "\n")
    assert main(["train", "data=folder", f"data.manifest={tmp_path / 'm.jsonl'}", "logger=none"]) == 2
    error = capsys.readouterr().err
    assert "line 1" in error and says in error


def test_targets_are_soft_in_training_alone(tmp_path: Path) -> None:
    rows = [Row(f"{split}{n}", tmp_path / "a.mp4", tags=("x",), split=split, tag_scores={"x": 0.6}) for n in range(2)
            for split in ("train", "val")]  # fmt: skip
    rows += [replace(rows[0], id="t", tags=("y",), tag_scores={})]
    write_manifest(rows, tmp_path / "manifest.jsonl")
    data = build_data(compose("train", ["data=folder", f"data.root={tmp_path}"])["data"])
    assert data.vocabulary.exclusive == (), "where tags are likely and not certain, none excludes another"
    trained, validated = data.dataset("train", train=True), data.dataset("val")
    assert [trained.target(i).tolist() for i in range(3)] == [pytest.approx(t) for t in ([0.6, 0], [0.6, 0], [0, 1])]
    assert validated.target(0).tolist() == [1, 0]
    data.close()


def test_a_vocabulary_says_how_sure_what_is_given_is() -> None:
    vocabulary = TagVocabulary(("a", "b", "c"))
    assert torch.equal(vocabulary.encode(("a", "c"), {"a": 0.5}), torch.tensor([0.5, 0.0, 1.0]))


def test_a_small_model_learns_from_what_a_library_says(
    shapes: Path, trained: Path, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """predict, data label, train on its manifest by data.manifest, end to end."""
    library, out, run = tmp_path / "library.jsonl", tmp_path / "lists" / "m.jsonl", tmp_path / "run"
    out.parent.mkdir()
    assert main(["predict", f"run={trained}", f"source={shapes / 'clips'}", f"out={library}", "threshold=0.4"]) == 0
    assert label(f"from={library}", f"out={out}", "min_score=0.4") == 0
    settings = [text for text in small if not text.startswith(("data=", "data.root", "data.clips", "data.source"))]
    assert main(["train", "data=folder", f"data.manifest={out}", *settings, "logger=none", f"run={run}"]) == 0
    assert load_model(run).vocabulary.names == tuple(sorted({tag for row in read_manifest(out) for tag in row.tags}))


def test_what_cannot_be_learned_from_is_one_line(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for given, says in [
        (["min_score=0.99"], "no tag reaches min_score=0.99"),
        (["min_score=2"], "min_score=2"),
        (["out=x.txt"], "expected a file that ends in"),
        (["seconds=0"], "seconds=0"),
    ]:
        assert label(f"from={library}", f"out={tmp_path / 'o.jsonl'}", *given) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()
    assert label(f"from={tmp_path / 'nowhere'}") == 2
