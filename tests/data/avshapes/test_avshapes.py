"""AVShapes as a data set: deterministic, real files, a complete manifest, and nothing lost by an interruption."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from mmattn.data.avshapes import FAMILIES, caption, describe, make_avshapes, manifest_row, render, render_video, tags
from mmattn.data.avshapes.scene import FIRST_SLOT, PHASE_JITTER, SECONDS, SLOT_JITTER
from mmattn.errors import UsageError

CLIPS = 12
SEED = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set, made in one go by one process."""
    root = tmp_path_factory.mktemp("avshapes")
    make_avshapes(root, CLIPS, SEED, workers=1)
    return root


def _rows(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


def _decode(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3), their times, the waveform and its samples' times."""
    with av.open(path) as file:
        pictures = list(file.decode(video=0))
    with av.open(path) as file:
        sounds = list(file.decode(audio=0))
    frames = np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])
    waveform = np.concatenate([sound.to_ndarray()[0] for sound in sounds])
    heard = np.concatenate([sound.time + np.arange(sound.samples) / sound.sample_rate for sound in sounds])
    return frames, np.array([picture.time for picture in pictures]), waveform, heard


def _flash_times(half: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """The middles of the frames in which the brightest twentieth of a half gets suddenly brighter."""
    luminance = half.mean(axis=-1).reshape(len(half), -1)
    bright = np.sort(luminance, axis=1)[:, -luminance.shape[1] // 20 :].mean(axis=1)
    rise = np.diff(bright, prepend=np.median(bright))
    return frame_times[rise > 0.3 * rise.max()] + 1 / 32


def _sound_times(waveform: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Where the level rises above a quarter of the peak after 60 ms below it."""
    loud = heard[np.abs(waveform) > 0.25 * np.abs(waveform).max()]
    return loud[np.diff(loud, prepend=-1) > 0.06]


def test_a_scene_and_what_is_rendered_of_it_depend_on_seed_and_index_only():
    once, again = render(describe(5, 7)), render(describe(5, 7))
    assert describe(5, 7) == describe(5, 7)
    assert all(np.array_equal(first, second) for first, second in zip(once, again, strict=True))
    for other in (describe(5, 8), describe(6, 7)):
        assert other != describe(5, 7)
        assert not any(np.array_equal(mine, theirs) for mine, theirs in zip(once, render(other), strict=True))


def test_rendered_arrays_have_the_documented_shapes_types_and_range():
    frames, waveform = render(describe(0, 0))
    assert (frames.shape, frames.dtype) == ((48, 96, 96, 3), np.uint8)
    assert (waveform.shape, waveform.dtype) == ((48000,), np.float32)
    assert 0.1 < np.abs(waveform).max() < 1


def test_events_are_apart_and_inside_the_clip():
    assert FIRST_SLOT - PHASE_JITTER - SLOT_JITTER >= 0
    for scene in (describe(0, index) for index in range(200)):
        assert np.diff(scene.slot_times).min() > 0.2
        assert scene.slot_times[-1] + scene.sound.seconds <= SECONDS


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_object_stays_in_its_half(side: str):
    for index in range(25):
        scene = describe(9, index)
        thing = getattr(scene, side)
        other = "red" if thing.colour == "blue" else "blue"
        recoloured = replace(scene, **{side: replace(thing, colour=other)})
        changed = (render_video(scene) != render_video(recoloured)).any(axis=(0, 1, 3)).nonzero()[0]
        first, last = (0, 47) if side == "left" else (48, 95)
        assert first < changed.min() and changed.max() < last, f"clip {index}: {thing}"


def test_files_are_short_h264_and_aac_clips(made: Path):
    for row in _rows(made):
        with av.open(made / row["path"]) as file:
            video, audio = file.streams.video[0], file.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.width, video.height, video.average_rate) == (96, 96, 16)
            assert (audio.sample_rate, audio.channels) == (16000, 1)
            assert abs(file.duration / 1e6 - SECONDS) < 0.07
        frames, times, waveform, _ = _decode(made / row["path"])
        assert len(frames) == 48
        assert times[0] == 0
        assert abs(len(waveform) - 48000) <= 1024


def test_the_picture_and_the_sound_survive_their_coding(made: Path):
    for index in range(4):
        frames, waveform = render(describe(SEED, index))
        coded, _, heard, _ = _decode(made / f"clips/{index:06d}.mp4")
        assert np.abs(coded.astype(int) - frames).mean() < 6
        assert np.corrcoef(heard[:47000], waveform[:47000])[0, 1] > 0.9


@pytest.mark.parametrize("source", ["left", "right"])
def test_in_a_coded_file_sound_and_flash_coincide_within_a_frame(source: str, tmp_path: Path):
    make_avshapes(tmp_path, 8, SEED, workers=1)
    checked = 0
    for index in range(8):
        scene = describe(SEED, index)
        if scene.source != source:
            continue
        frames, frame_times, waveform, heard = _decode(tmp_path / f"clips/{index:06d}.mp4")
        half = frames[:, :, :48] if source == "left" else frames[:, :, 48:]
        flashes, sounds = _flash_times(half, frame_times), _sound_times(waveform, heard)
        assert len(flashes) == len(sounds) == 4
        assert np.abs(flashes - sounds).max() < 1 / 16
        checked += 1
    assert checked


def test_the_manifest_says_of_every_clip_what_is_true(made: Path):
    rows = _rows(made)
    assert [row["id"] for row in rows] == [f"{index:06d}" for index in range(CLIPS)]
    for index, row in enumerate(rows):
        scene = describe(SEED, index)
        assert row["tags"] == list(tags(scene)) == list(row["families"])
        assert row["families"] == {tag: FAMILIES[tag] for tag in row["tags"]}
        assert row["captions"] == [caption(scene)]
        assert (row["start"], row["end"]) == (0.0, 3.0)
        assert (made / row["path"]).is_file()
        assert row["generator"] == {"name": "avshapes", "version": 1, "seed": SEED}
    assert not [path for path in made.rglob("*") if path.name.startswith(".")]


def test_every_split_is_there_from_three_clips_on_in_the_stated_shares():
    splits = [manifest_row(0, index)["split"] for index in range(100)]
    assert set(splits[:3]) == {"train", "val", "test"}
    assert {split: splits.count(split) for split in set(splits)} == {"train": 70, "val": 15, "test": 15}


def test_the_families_cover_the_vocabulary_and_every_tag_occurs():
    assert set(FAMILIES.values()) == {"picture", "sound", "redundant", "synergy"}
    occurring = itertools.chain.from_iterable(tags(describe(0, index)) for index in range(200))
    assert set(occurring) == set(FAMILIES)


def test_a_caption_says_what_the_tags_say():
    words = {"sound/noise": "noise bursts", "place/engine_room": "in an engine room"}
    for scene in (describe(1, index) for index in range(300)):
        text, true = caption(scene), tags(scene)
        for tag in set(FAMILIES) - {"sync/in_time", "source/left", "source/right"}:
            word = words.get(tag, tag.split("/")[1])
            assert (re.search(rf"\b{word}", text) is not None) == (tag in true), (tag, text)
        assert ("in time with neither" in text) == ("sync/in_time" not in true)
        for side in ("left", "right"):
            assert (f"in time with the {side} one" in text) == (f"source/{side}" in true)


def test_an_interrupted_set_is_finished_without_making_anything_twice(made: Path, tmp_path: Path):
    class Interrupted(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Interrupted(f"{done} of {total}")

    with pytest.raises(Interrupted):
        make_avshapes(tmp_path, CLIPS, SEED, workers=1, progress=stop)
    early = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").iterdir()}
    assert 0 < len(early) < CLIPS
    assert not (tmp_path / "manifest.jsonl").exists()

    reports: list[tuple[int, int]] = []
    manifest = make_avshapes(
        tmp_path, CLIPS, SEED, workers=2, progress=lambda done, total: reports.append((done, total))
    )
    assert reports[-1] == (CLIPS, CLIPS)
    assert {path: path.stat().st_mtime_ns for path in early} == early
    assert manifest.read_bytes() == (made / "manifest.jsonl").read_bytes()
    for row in _rows(made):
        assert (tmp_path / row["path"]).read_bytes() == (made / row["path"]).read_bytes()


def test_a_set_made_by_several_processes_is_the_same(made: Path, tmp_path: Path):
    make_avshapes(tmp_path, CLIPS, SEED, workers=2)
    for path in made.rglob("*.mp4"):
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_a_complete_set_is_reused_and_grows(tmp_path: Path):
    manifest = make_avshapes(tmp_path, 2, SEED, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    def never(done: int, total: int) -> None:
        raise AssertionError(f"{done} of {total} made again")

    assert make_avshapes(tmp_path, 2, SEED, workers=1, progress=never) == manifest
    assert {path: path.stat().st_mtime_ns for path in before} == before

    assert make_avshapes(tmp_path, 4, SEED, workers=1) == manifest
    assert len(_rows(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.suffix == ".mp4")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    make_avshapes(tmp_path / "ours", 1, SEED, workers=1)
    with pytest.raises(UsageError, match=r'"seed": 3.*"seed": 4'):
        make_avshapes(tmp_path / "ours", 1, SEED + 1, workers=1)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="did not make"):
        make_avshapes(tmp_path / "theirs", 1, SEED, workers=1)
    with pytest.raises(UsageError, match="at least one clip"):
        make_avshapes(tmp_path / "none", 0, SEED)
