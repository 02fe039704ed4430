"""Files become batches: read as they are asked for, kept once read, never replaced when they cannot be read."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.data.build import build_data
from mmattn.data.load.cache import EXCLUDED, FAILED, KEPT, READ, UNTRIED, ClipCache
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.dataset import ClipDataset, missing_clip
from mmattn.data.load.quarantine import Quarantine
from mmattn.data.load.reader import ClipReader
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import FolderSource
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import MediaError, MmattnError, UsageError
from mmattn.media.write.video import write_video

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=16, width=16, mels=8)
LEVELS = {"dark/1.mp4": 40, "dark/2.mp4": 60, "light/1.mp4": 180, "light/2.mp4": 200}
AUGMENT = Augment(picture=PictureAugment(shift_px=2), sound=SoundAugment(gain_db=6))


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
    data = ClipData(
        source=source, clip=SPEC, augment=AUGMENT, batch_size=2, workers=0, cache_gb=1.0, seed=0, isolated=False
    )
    return replace(data, **changes)


def _dataset(rows: list[Row], cache_bytes: int = 1 << 30, **changes: object) -> ClipDataset:
    settings = {"reader": ClipReader(isolated=False), "augment": None} | changes
    cache = ClipCache(len(rows), SPEC.finish(missing_clip(SPEC)), cache_bytes)
    return ClipDataset(rows, SPEC, TagVocabulary(("dark", "light")), cache=cache, **settings)


@pytest.fixture
def rows(root: Path) -> list[Row]:
    return FolderSource(str(root)).rows()


@pytest.fixture
def split_root(root: Path, tmp_path: Path) -> Path:
    """The clips with a manifest: two to train, two to validate."""
    lines = [
        {"path": str(root / name), "id": name, "tags": [name[:4]], "split": "train" if "1" in name else "val"}
        for name in LEVELS
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def _bad_rows(folder: Path, count: int) -> list[Row]:
    (folder / "text.mp4").write_text("not a film")
    return [Row(id=f"bad{k}", path=folder / "text.mp4", tags=("dark",)) for k in range(count)]


def _equal(one: object, other: object) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


def test_a_sample_is_what_the_file_shows(rows: list[Row]) -> None:
    dataset = _dataset(rows)
    for index, (name, level) in enumerate(LEVELS.items()):
        found = dataset[(0, index)]
        assert found.id == name and found.real
        assert float(found.sample.frames.float().mean()) == pytest.approx(level, abs=4)
        assert found.sample.frame_keep.all()
        assert bool(found.sample.spectrogram_keep.any()) == (name != "dark/2.mp4")
        assert found.target.tolist() == [float(name.startswith("dark")), float(name.startswith("light"))]


@pytest.mark.parametrize("cache_bytes", [0, 10_000, 1 << 30], ids=["none", "some", "all"])
def test_what_is_kept_in_memory_changes_nothing(rows: list[Row], cache_bytes: int) -> None:
    dataset = _dataset(rows, cache_bytes)
    first = [dataset[(0, index)].sample for index in range(len(rows))]
    size = sum(-(-torch.as_tensor(value).nbytes // 16) * 16 for value in vars(first[0]).values())
    places = min(len(rows), cache_bytes // size)
    assert cache_bytes in (0, 1 << 30) or 0 < places < len(rows)
    assert dataset.cache.state.tolist() == [KEPT] * places + [READ] * (len(rows) - places)
    assert all(_equal(sample, dataset[(1, index)].sample) for index, sample in enumerate(first))


def test_nothing_is_read_before_it_is_asked_for_nor_again_once_kept(root: Path, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / "dark" / name).write_bytes((root / "dark" / "1.mp4").read_bytes())
    dataset = _dataset(FolderSource(str(tmp_path)).rows())
    assert dataset.cache.state.tolist() == [UNTRIED, UNTRIED]
    assert dataset[(0, 0)].real
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / "dark" / name).unlink()
    assert dataset[(3, 0)].sample.frame_keep.all()
    assert not dataset[(3, 1)].real


def test_an_unreadable_clip_keeps_its_place_and_is_tried_once(rows: list[Row], tmp_path: Path) -> None:
    (bad,) = _bad_rows(tmp_path, 1)
    dataset = _dataset([rows[0], bad, rows[2]])
    batch, found = dataset.collate(dataset.__getitems__([(0, 0), (0, 1), (0, 2)]))
    assert batch.ids == ("dark/1.mp4", "bad0", "light/1.mp4")
    assert batch.real.tolist() == [True, False, True]
    assert not batch.frame_keep[1].any() and not batch.spectrogram_keep[1].any()
    assert [(name, error.reason) for name, error in found] == [("bad0", "not_media")]
    bad.path.write_bytes(rows[0].path.read_bytes())  # now it could be read, but a run must not depend on when
    again, found = dataset.collate(dataset.__getitems__([(1, 1)]))
    assert again.real.tolist() == [False] and found == []


def test_a_mixup_partner_that_cannot_be_read_is_told_too(rows: list[Row], tmp_path: Path) -> None:
    dataset = _dataset([rows[0], *_bad_rows(tmp_path, 1)])
    assert dataset.other(0, 1) is None
    _, found = dataset.collate([dataset[(0, 0)]])
    assert [name for name, _ in found] == ["bad0"]


def test_augmentation_is_keyed_by_epoch_and_place(split_root: Path) -> None:
    data = _data(split_root)
    train, plain = data.dataset("train", train=True), data.dataset("train")
    again = _data(split_root).dataset("train", train=True)
    assert torch.equal(train[(1, 0)].sample.spectrogram, again[(1, 0)].sample.spectrogram)
    assert not torch.equal(train[(1, 0)].sample.spectrogram, train[(2, 0)].sample.spectrogram)
    assert not torch.equal(train[(1, 0)].sample.spectrogram, plain[(0, 0)].sample.spectrogram)


def test_a_loaders_batches_hold_each_clip_in_its_row(split_root: Path) -> None:
    data = _data(split_root)
    (batch,) = data.loader(data.dataset("val"), train=False)
    assert batch.ids == ("dark/2.mp4", "light/2.mp4")
    assert batch.frames.shape == (2, 4, 3, 16, 16)
    assert batch.spectrogram.shape == (2, 50, 8)
    assert batch.targets["tags"].tolist() == [[1, 0], [0, 1]]
    assert batch.real.all()
    assert batch.spectrogram_keep.any(dim=1).tolist() == [False, True]
    assert batch.frames.float().mean(dim=(1, 2, 3, 4)).tolist() == pytest.approx([60, 200], abs=4)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_worker_process_makes_the_same_batches(split_root: Path, isolated: bool) -> None:
    alone = _data(split_root, batch_size=1)
    forked = _data(split_root, batch_size=1, workers=1, isolated=isolated)
    forked.check_readable()  # its decoder stays here; the worker must not speak to it but have one of its own
    here, there = (list(data.loader(data.dataset("train", train=True), train=True)) for data in (alone, forked))
    forked.check_readable()
    assert [batch.ids for batch in here] == [batch.ids for batch in there]
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.spectrogram, other.spectrogram)
        assert torch.equal(one.frames, other.frames)


def test_what_a_worker_process_reads_is_kept_for_all_and_what_it_finds_bad_is_told(
    split_root: Path, tmp_path: Path
) -> None:
    _bad_rows(tmp_path, 1)
    with (split_root / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": "bad0", "path": "text.mp4", "tags": ["dark"], "split": "train"}))
    data = _data(split_root, workers=1, batch_size=3)
    dataset = data.dataset("train", train=True)
    loader = data.loader(dataset, train=True)
    (batch,) = loader
    assert sorted(zip(batch.ids, batch.real.tolist(), strict=True))[0] == ("bad0", False)
    assert sorted(dataset.cache.state.tolist()) == [KEPT, KEPT, FAILED]
    assert data.quarantine.reasons["bad0"]["reason"] == "not_media"
    assert dataset[(5, 0)].real, "the process that trains finds it in memory"


def test_many_bad_clips_stop_the_run_with_their_number_and_reasons(rows: list[Row], tmp_path: Path) -> None:
    split = [replace(rows[k % 4], id=str(k), split="train") for k in range(25)]
    split += [replace(row, split="train") for row in _bad_rows(tmp_path, 3)]
    split.append(replace(rows[0], id="val", split="val"))
    data = _data(tmp_path, max_bad_fraction=0.1, batch_size=28)
    data.__dict__["rows"] = {"train": split[:-1], "val": split[-1:], "test": []}
    data.quarantine.keep_in(tmp_path / "unreadable.jsonl")
    with pytest.raises(MmattnError, match=r"3 of 28 clips could not be read.*3 not_media, such as .*text\.mp4"):
        list(data.loader(data.dataset("train"), train=False))
    assert len((tmp_path / "unreadable.jsonl").read_text().splitlines()) == 3
    # To go on with it is no way around, until the limit allows it.
    for limit, stops in ((0.1, True), (0.11, False)):
        resumed = _data(tmp_path, max_bad_fraction=limit, batch_size=28)
        resumed.__dict__["rows"] = data.rows
        resumed.quarantine.keep_in(tmp_path / "unreadable.jsonl")
        loader = resumed.loader(resumed.dataset("train"), train=False)
        if stops:
            with pytest.raises(MmattnError, match="3 of 28"):
                next(iter(loader))
        else:
            (batch,) = loader
            assert int((~batch.real).sum()) == 3
            assert sorted(loader.clips.cache.state.tolist())[-3:] == [EXCLUDED] * 3, "not tried again"


def test_a_few_clips_say_nothing_about_the_rest(rows: list[Row], tmp_path: Path) -> None:
    data = _data(tmp_path, batch_size=8)
    good = [replace(row, split="train") for row in rows]
    data.__dict__["rows"] = {"train": good + _bad_rows(tmp_path, 2), "val": good, "test": []}
    (batch,) = data.loader(data.dataset("train"), train=False)
    assert int(batch.real.sum()) == 4


def test_a_run_lists_each_bad_clip_once_whoever_finds_it(tmp_path: Path) -> None:
    file = tmp_path / "unreadable.jsonl"
    ranks = [Quarantine(0.05), Quarantine(0.05)]
    ranks[0].add("early", MediaError("a.mp4", "crashed", "worker ended by SIGSEGV"))
    for quarantine in ranks:
        quarantine.keep_in(file)
    for quarantine in ranks:
        quarantine.add("b", MediaError("b.mp4", "timeout"))
    with file.open("a") as opened:
        opened.write('{"id": "cut o')  # its process was killed
    ranks[1].add("c\ud800", MediaError("c.mp4", "truncated"))
    lines = file.read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines if line.endswith("}")] == ["early", "b", "c\ud800"]
    ranks[0].refresh()
    assert list(ranks[0].reasons) == ["early", "b", "c\ud800"]


def _ramp(folder: Path, seconds: float) -> Path:
    """Its grey tells the time: level 20 at 0 s, 20 more each second."""
    folder.mkdir()
    levels = 20 + 20 * (np.arange(int(8 * seconds)) + 0.5) / 8
    frames = np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (len(levels), 32, 32, 3))
    write_video(folder / "ramp.mp4", np.ascontiguousarray(frames), 8, options={"crf": "1"})
    return folder / "ramp.mp4"


def test_a_longer_clip_is_read_from_where_span_says(tmp_path: Path) -> None:
    path = _ramp(tmp_path / "a", 8.0)
    rows = [Row("whole", path), Row("part", path, start=2.0, end=4.5), Row("short", path, start=7.75)]

    def starts(span: str, epoch: int = 0) -> list[float]:
        data = _dataset(rows, 0 if span == "random" else 1 << 20, span=span)
        samples = [data[(epoch, index)].sample for index in range(len(rows))]
        return [float(s.frames[s.frame_keep].float().mean() / 20 - 1 - s.frame_keep.sum() / 16) for s in samples]

    assert starts("first") == pytest.approx([0.0, 2.0, 7.75], abs=0.2)
    assert starts("center") == pytest.approx([3.75, 3.0, 7.75], abs=0.2)
    draws = np.array([starts("random", epoch) for epoch in range(12)])
    assert (draws.min(axis=0) >= [-0.2, 1.8, 7.55]).all() and (draws.max(axis=0) <= [7.7, 4.2, 7.95]).all()
    assert np.ptp(draws[:, 0]) > 3 and np.ptp(draws[:, 1]) > 0.8
    assert draws[5].tolist() == starts("random", 5), "keyed by seed, epoch and index"


def test_evaluation_takes_the_center_where_training_takes_random_spans(split_root: Path) -> None:
    data = _data(split_root, span="random")
    train, val = data.dataset("train", train=True), data.dataset("val")
    assert (train.span, train.cache.places) == ("random", 0)
    assert (val.span, val.cache.places) == ("center", 2)


def test_none_readable_names_the_first(tmp_path: Path) -> None:
    lines = [{"path": f"{split}.mp4", "tags": ["x"], "split": split} for split in ("train", "val")]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "train.mp4").write_text("no film")
    with pytest.raises(UsageError, match=r"none of the 1 train files is readable; the first: .*train\.mp4: not_media"):
        _data(tmp_path).check_readable()


def test_a_dataset_sent_to_another_process_reads_there(rows: list[Row]) -> None:
    dataset = _dataset(rows)
    first = dataset[(0, 0)]
    sent = pickle.loads(pickle.dumps(dataset))  # as to processes that are started anew, not forked
    assert _equal(sent[(0, 0)].sample, first.sample)
    assert sent.cache.places == 0, "each of them keeping all would take many times the memory"


def test_threads_answer_in_order_and_never_run_far_ahead() -> None:
    reader, started = ClipReader(isolated=False, threads=2), []

    def slow_first(item: int) -> int:
        started.append(item)
        time.sleep(0.2 if item == 0 else 0)
        return item

    results = reader.map(slow_first, range(100))
    assert next(results) == 0
    assert len(started) <= 9
    assert list(results) == list(range(1, 100))


def test_a_data_set_needs_clips_to_train_and_to_validate_on(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no val clips \(4 train, 0 val, 0 test\)"):
        _ = _data(root).rows


def test_a_validation_tag_unseen_in_training_is_refused(split_root: Path) -> None:
    manifest = split_root / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('["ligh"], "split": "val"', '["new"], "split": "val"'))
    with pytest.raises(UsageError, match=r"val split: tags unseen in training: new \(1 clip\)"):
        _ = _data(split_root).vocabulary


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused(tiny_config: Callable, size: int) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        build_data(tiny_config(f"data.batch_size={size}")["data"])
