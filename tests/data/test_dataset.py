"""Files become batches: read once, bad ones left out with their reasons, the same batch whatever reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.data.augment import Augment
from mmattn.data.dataset import ClipDataset
from mmattn.data.labels import TagVocabulary
from mmattn.data.manifest import Row
from mmattn.data.module import ClipData, build_data
from mmattn.data.sources import FolderSource
from mmattn.data.transforms import ClipSpec
from mmattn.errors import UsageError
from mmattn.media.write import write_video

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=16, width=16, mels=8)
LEVELS = {"dark/1.mp4": 40, "dark/2.mp4": 60, "light/1.mp4": 180, "light/2.mp4": 200}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of half a second, each a grey of its own; one has no sound."""
    folder = tmp_path_factory.mktemp("clips")
    tone = (0.3 * np.sin(np.arange(8000) / 5)).astype(np.float32)
    for name, level in LEVELS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        frames = np.full((4, 32, 32, 3), level, np.uint8)
        write_video(folder / name, frames, 8, None if name == "dark/2.mp4" else tone)
    return folder


def _data(root: Path, **changes: object) -> ClipData:
    source = FolderSource(str(root), val_fraction=0.0)
    data = ClipData(source, SPEC, Augment(gain_db=6, shift_px=2), batch_size=2, workers=0, cache_gb=1.0, seed=0)
    return replace(data, **changes)


def _dataset(rows: list[Row], vocabulary: TagVocabulary, **changes: object) -> ClipDataset:
    settings = {"augment": None, "seed": 0, "cache_bytes": 1 << 30} | changes
    return ClipDataset(rows, SPEC, vocabulary, **settings)


@pytest.fixture
def rows(root: Path) -> list[Row]:
    return FolderSource(str(root)).rows()


@pytest.fixture
def tags(rows: list[Row]) -> TagVocabulary:
    return TagVocabulary.from_rows(rows)


@pytest.fixture
def split_root(root: Path, tmp_path: Path) -> Path:
    """The clips with a manifest: two to train, two to validate."""
    lines = [
        {"path": str(root / name), "id": name, "tags": [name[:4]], "split": "train" if "1" in name else "val"}
        for name in LEVELS
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def test_a_sample_is_what_the_file_shows(rows: list[Row], tags: TagVocabulary) -> None:
    dataset = _dataset(rows, tags)
    assert dataset.load("reading") == []
    for index, (name, level) in enumerate(LEVELS.items()):
        found, sample, target = dataset[(0, index)]
        assert found == name
        assert float(sample.frames.float().mean()) == pytest.approx(level, abs=4)
        assert sample.frame_keep.all()
        assert bool(sample.spectrogram_keep.any()) == (name != "dark/2.mp4")
        assert target.tolist() == [float(name.startswith("dark")), float(name.startswith("light"))]


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 1 << 30], ids=["none", "some", "all"])
def test_what_is_kept_in_memory_changes_nothing(rows: list[Row], tags: TagVocabulary, cache_bytes: int) -> None:
    whole, other = _dataset(rows, tags), _dataset(rows, tags, cache_bytes=cache_bytes)
    whole.load("reading")
    other.load("reading")
    for index in range(len(rows)):
        for one, two in zip(vars(whole[(0, index)][1]).values(), vars(other[(0, index)][1]).values(), strict=True):
            assert torch.equal(one, two)


def test_what_is_kept_is_read_from_disk_no_more(root: Path, tags: TagVocabulary, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    (tmp_path / "dark" / "1.mp4").write_bytes((root / "dark" / "1.mp4").read_bytes())
    dataset = _dataset(FolderSource(str(tmp_path)).rows(), tags)
    dataset.load("reading")
    (tmp_path / "dark" / "1.mp4").unlink()
    assert dataset[(3, 0)][1].frame_keep.all()


def test_unreadable_files_are_dropped_with_their_reasons(rows: list[Row], tags: TagVocabulary, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "empty.mp4").touch()
    bad = [Row(id=name, path=tmp_path / name, tags=("dark",)) for name in ("text.mp4", "gone.mp4", "empty.mp4")]
    dataset = _dataset([bad[0], rows[0], bad[1], rows[2], bad[2]], tags)
    errors = dataset.load("reading")
    assert [(Path(error.path).name, error.reason) for error in errors] == [
        ("text.mp4", "not_media"),
        ("gone.mp4", "unreadable"),
        ("empty.mp4", "not_media"),
    ]
    assert [row.id for row in dataset.rows] == ["dark/1.mp4", "light/1.mp4"]
    assert dataset[(0, 1)][0] == "light/1.mp4", "places follow the rows that stay"
    assert float(dataset[(0, 1)][1].frames.float().mean()) == pytest.approx(180, abs=4)


def test_augmentation_is_keyed_by_epoch_and_place(split_root: Path) -> None:
    data = _data(split_root)
    train, plain = data.dataset("train", train=True), _dataset(data.rows["train"], data.vocabulary)
    again = _data(split_root).dataset("train", train=True)
    assert torch.equal(train[(1, 0)][1].spectrogram, again[(1, 0)][1].spectrogram)
    assert not torch.equal(train[(1, 0)][1].spectrogram, train[(2, 0)][1].spectrogram)
    assert not torch.equal(train[(1, 0)][1].spectrogram, plain[(0, 0)][1].spectrogram)


def test_a_loaders_batches_hold_each_clip_in_its_row(split_root: Path) -> None:
    data = _data(split_root)
    (batch,) = data.loader(data.dataset("val"), train=False)
    assert batch.ids == ("dark/2.mp4", "light/2.mp4")
    assert batch.frames.shape == (2, 4, 3, 16, 16)
    assert batch.spectrogram.shape == (2, 50, 8)
    assert batch.targets["tags"].tolist() == [[1, 0], [0, 1]]
    assert batch.spectrogram_keep.any(dim=1).tolist() == [False, True]
    assert batch.frames.float().mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([60, 200], abs=4)


def test_worker_processes_make_the_same_batches(split_root: Path) -> None:
    here, there = (
        list(data.loader(data.dataset("train", train=True), train=True))
        for data in (_data(split_root), _data(split_root, workers=1))
    )
    assert [batch.ids for batch in here] == [batch.ids for batch in there]
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.spectrogram, other.spectrogram)
        assert torch.equal(one.frames, other.frames)


def test_none_readable_names_the_first(tmp_path: Path) -> None:
    lines = [{"path": f"{split}.mp4", "tags": ["x"], "split": split} for split in ("train", "val")]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "train.mp4").write_text("no film")
    with pytest.raises(UsageError, match=r"none of 1 files is readable; the first: .*train\.mp4: not_media"):
        _data(tmp_path).dataset("train")


def test_files_left_out_are_reported(split_root: Path, capsys: pytest.CaptureFixture) -> None:
    with (split_root / "manifest.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"path": "gone.mp4", "tags": ["dark"], "split": "train"}))
    assert len(_data(split_root).dataset("train")) == 2
    said = capsys.readouterr().err
    assert "1 unreadable" in said
    assert "gone.mp4" in said


def test_a_data_set_needs_clips_to_train_and_to_validate_on(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no val clips \(4 train, 0 val, 0 test\)"):
        _ = _data(root).rows


def test_a_validation_tag_unseen_in_training_is_refused(split_root: Path) -> None:
    manifest = split_root / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('["ligh"], "split": "val"', '["new"], "split": "val"'))
    with pytest.raises(UsageError, match=r"val split: tags unseen in training: new \(1 clips\)"):
        _ = _data(split_root).vocabulary


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused(tiny_config: Callable, size: int) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        build_data(tiny_config(f"data.batch_size={size}")["data"])
