"""Shards hold what the files show, for any reader; whoever kills their maker gets the same bytes in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.sampler import Draw
from mmattn.data.output_folder import alone_in, content_stamp, rows_hash
from mmattn.data.shards.source import ShardSource
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video

pytestmark = pytest.mark.usefixtures("warm")

FPS, SECONDS, CLIPS = 8, 1.5, 9
SMALL = ["data.clip.seconds=1.5", "data.clip.height=24", "data.clip.width=32", "data.batch_size=4"]
ALONE = ["data.isolated=false", "threads=1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips in three splits: a square that moves and a tone; one without sound, one sound alone, one text."""
    folder = tmp_path_factory.mktemp("files")
    rows = []
    for k in range(CLIPS):
        frames = np.full((12, 48, 64, 3), 40 + 10 * k, np.uint8)
        for t in range(12):
            frames[t, 16:32, 4 * t : 4 * t + 16] = (250, 200 - 20 * k, 30)
        tone = (0.4 * np.sin(np.arange(24000) * (0.05 + 0.02 * k))).astype(np.float32)
        name = f"{k}.mp4" if k != 5 else "5.mkv"
        write_video(folder / name, None if k == 5 else frames, FPS, None if k == 4 else tone)
        split = ("train", "train", "train", "val", "train", "train", "test", "train", "val")[k]
        rows.append({"id": f"clip {k}", "path": name, "tags": [f"tag{k % 2}"], "split": split})
    rows[0] |= {"tag_scores": {"tag0": 0.75}}
    rows[2] |= {"start": 0.25, "end": 1.25, "captions": ["part of it"], "segments": [["word", 0.5, 0.75]]}
    (folder / "text.mp4").write_text("no film")
    rows.insert(1, {"id": "bad", "path": "text.mp4", "tags": ["tag0"], "split": "train"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _command(root: Path, out: Path, *more: str) -> list[str]:
    return ["data", "shard", f"data.root={root}", f"out={out}", "shard_mb=0.05", "fps=8", *ALONE, *more]


@pytest.fixture(scope="module")
def shards(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "made"
    assert main(_command(root, out)) == 0
    return out


def _data(kind: str, root: Path) -> ClipData:
    config = compose("train", [f"data={kind}", f"data.root={root}", "data.isolated=false", *SMALL])
    return build_data(config["data"])


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_trained_on_is_the_same_from_files_and_from_shards(root: Path, shards: Path) -> None:
    files, tars = _data("folder", root), _data("shards", shards)
    files.rows["train"].pop(1)  # the text
    for split in ("train", "val"):
        one, other = (
            list(data.loader(data.dataset(split), train=split == "train"))  # type: ignore[arg-type]
            for data in (files, tars)
        )
        assert [batch.ids for batch in one] == [batch.ids for batch in other]
        for a, b in zip(one, other, strict=True):
            assert b.real.all()
            for name in ("frame_keep", "frame_times", "spectrogram_keep", "spectrogram_times"):
                assert torch.equal(getattr(a, name), getattr(b, name)), name
            assert torch.equal(a.targets["tags"], b.targets["tags"])
            assert float((a.frames.float() - b.frames.float()).abs().mean()) < 2.5  # JPEG
            assert float((a.spectrogram - b.spectrogram).abs().max()) < 0.1  # 16 bits


def test_rows_keep_what_was_said_of_them_at_their_new_times(root: Path, shards: Path) -> None:
    rows = {row.id: row for row in ShardSource(str(shards)).rows()}
    assert list(rows) == [f"clip {k}" for k in range(CLIPS)], "in the order of the files' manifest"
    part = rows["clip 2"]
    assert (part.start, part.end, part.captions) == (0.0, 1.0, ("part of it",))
    assert [tuple(segment) for segment in part.segments] == [("word", 0.25, 0.5)]
    assert rows["clip 0"].end == pytest.approx(1.5, abs=0.05)
    assert rows["clip 0"].tag_scores == {"tag0": 0.75} and not rows["clip 1"].tag_scores
    (line,) = (shards / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(line) | {"detail": ""} == {
        "id": "bad", "path": str(root / "text.mp4"), "reason": "not_media", "detail": "",
    }  # fmt: skip


def test_how_sure_a_tag_is_stands_in_the_tar_and_is_the_target_in_training(shards: Path) -> None:
    scores = {}
    for path in shards.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".json"):
                    about = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    scores[about["id"]] = about.get("tag_scores")
    assert scores == {f"clip {k}": {"tag0": 0.75} if k == 0 else None for k in range(CLIPS)}
    data = _data("shards", shards)
    (soft,) = [item for item in map(data.dataset("train", train=True).__getitem__, _draws(data)) if item.id == "clip 0"]
    assert soft.target.tolist() == [0.75, 0.0]


def _draws(data: ClipData) -> list[Draw]:
    return [Draw(0, index) for index in range(len(data.rows["train"]))]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves the closing to Python
def test_webdataset_reads_the_tars(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    found = {}
    for tar in sorted(shards.glob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False).decode("rgb8"):
            found[sample["json"]["id"]] = sample
    assert sorted(found) == [f"clip {k}" for k in range(CLIPS)]
    sample = found["clip 0"]
    assert sample["000000.jpg"].shape == (48, 64, 3) and "000011.jpg" in sample
    assert sample["json"]["tags"] == ["tag0"] and sample["json"]["frame_times"][1] == 0.1875
    assert "flac" not in found["clip 4"] and "000000.jpg" not in found["clip 5"]


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    assert condition()


def test_killed_and_run_again_the_bytes_are_the_same(root: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one_each = "shard_mb=0.01"
    assert main(_command(root, whole, one_each)) == 0
    process = subprocess.Popen([sys.executable, "-m", "mmattn", *_command(root, parts, one_each)])
    _wait_for(lambda: len(list(parts.glob("*.list"))) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "made" not in json.loads((parts / "shards.json").read_text()), "it was not through"
    with pytest.raises(UsageError, match="not finished"):
        ShardSource(str(parts)).rows()
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.tar")}
    (parts / ".0123456789ab.part").write_bytes(b"of a process that was killed")
    assert main(_command(root, parts, one_each)) == 0
    assert _content(parts) == _content(whole)
    assert len(kept) >= 2 and all(path.stat().st_mtime_ns == at for path, at in kept.items()), "not made twice"


def test_a_finished_folder_is_left_as_it_is(root: Path, shards: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert main(_command(root, shards)) == 0
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == before
    assert "9 clips in" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["fps=4", "quality=50", "sound=wav", "seconds=1.0"])
def test_another_recipe_in_the_same_folder_is_refused(
    root: Path, shards: Path, change: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(_command(root, shards, change)) == 2
    assert f"begun with another {change.partition('=')[0]} (" in capsys.readouterr().err


def test_what_is_decoded_is_the_recipe_and_not_when_it_was_written_nor_its_labels(root: Path, tmp_path: Path) -> None:
    rows = _data("folder", root).source.rows()
    before = rows_hash(rows)
    assert before == rows_hash(list(rows))
    assert before != rows_hash(rows[::-1])
    assert before == rows_hash([replace(rows[0], tags=("other",), captions=("x",)), *rows[1:]])
    for change in ({"start": 0.1}, {"end": 1.0}, {"id": "y"}, {"split": "test"}, {"offset": 0, "size": 9}):
        assert before != rows_hash([replace(rows[0], **change), *rows[1:]]), change
    copied = [replace(row, path=tmp_path / row.path.name) for row in rows]
    for row, copy in zip(rows, copied, strict=True):
        copy.path.write_bytes(row.path.read_bytes())  # as cp without -p does
    assert before == rows_hash(copied)
    content = bytearray(copied[0].path.read_bytes())
    content[len(content) // 2] ^= 1
    copied[0].path.write_bytes(content)
    assert before != rows_hash(copied)
    copied[0].path.unlink()
    assert before != rows_hash(copied)


def test_a_large_file_is_told_by_its_begin_middle_and_end(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(3 << 20))
    before = content_stamp(file)
    for at in (0, 3 << 19, (3 << 20) - 1):
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(b"x")
        assert content_stamp(file) != before
        before = content_stamp(file)
    os.mkfifo(tmp_path / "fifo")
    assert content_stamp(tmp_path / "fifo") is None, "at once"


def _copied(root: Path, to: Path) -> Path:
    """The data set's files, with new times."""
    to.mkdir()
    for path in root.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_it_goes_on_after_a_copy_and_a_label_put_right(root: Path, tmp_path: Path) -> None:
    """Two tars are there, then the set moves and a typo is fixed: they stay, and the manifest has the new label."""
    source, out = _copied(root, tmp_path / "source"), tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "mmattn", *_command(source, out, "shard_mb=0.01")])
    _wait_for(lambda: len(list(out.glob("*.list"))) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    moved = _copied(source, tmp_path / "moved")
    manifest = moved / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("tag1", "tag one").replace("part of it", "a part of it"))
    assert main(_command(moved, out, "shard_mb=0.01")) == 0
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    rows = {row.id: row for row in ShardSource(str(out)).rows()}
    assert rows["clip 1"].tags == ("tag one",) and rows["clip 2"].captions == ("a part of it",)


def test_labels_changed_after_the_end_are_taken_over_and_those_of_the_shards_own_manifest_stay(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, out = _copied(root, tmp_path / "source"), tmp_path / "out"
    assert main(_command(source, out)) == 0
    own = out / "manifest.jsonl"
    own.write_text(own.read_text().replace("part of it", "my words"))
    tars = {path: path.read_bytes() for path in out.glob("*.tar")}
    assert main(_command(source, out)) == 0
    assert "my words" in own.read_text(), "nothing changed in the source"
    manifest = source / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("tag1", "tag one").replace('["word", 0.5', '["said", 0.5'))
    capsys.readouterr()
    assert main(_command(source, out)) == 0
    assert "labels updated, because those of the clips' source have changed" in capsys.readouterr().err
    rows = {row.id: row for row in ShardSource(str(out)).rows()}
    assert rows["clip 1"].tags == ("tag one",)
    assert [tuple(part) for part in rows["clip 2"].segments] == [("said", 0.25, 0.5)]
    assert {path: path.read_bytes() for path in out.glob("*.tar")} == tars


def test_two_at_once_are_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with alone_in(tmp_path):
        assert main(_command(root, tmp_path)) == 2
    assert f"another process is filling it now: process {os.getpid()} on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["cut", "gone", "moved"])
def test_tars_that_are_not_as_they_were_made_are_refused(root: Path, shards: Path, tmp_path: Path, harm: str) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = tmp_path / "train-000000.tar"
    if harm == "cut":
        tar.write_bytes(tar.read_bytes()[:-512])
    elif harm == "gone":
        tar.unlink()
    else:
        manifest = tmp_path / "manifest.jsonl"
        manifest.write_text(manifest.read_text().replace('"path": "train', '"path": "../train'))
    with pytest.raises(UsageError, match={"cut": "has .* bytes", "gone": "is missing", "moved": "does not lie"}[harm]):
        ShardSource(str(tmp_path)).rows()


def test_a_damaged_clip_costs_itself_alone(shards: Path, tmp_path: Path) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = _data("shards", tmp_path)
    hit = data.rows["train"][1]
    assert hit.offset is not None and hit.size is not None
    with hit.path.open("r+b") as file:
        file.seek(hit.offset + hit.size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))
    batches = list(data.loader(data.dataset("train"), train=False))
    real = {name: flag for batch in batches for name, flag in zip(batch.ids, batch.real.tolist(), strict=True)}
    assert [name for name, flag in real.items() if not flag] == [hit.id]
    assert "CRC" in data.quarantine.reasons[hit.id]["detail"]
