"""Tags over time: on films whose times are known, by a model whose rule is known."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tagging_rules import CLIP, FPS, RATE, rules, write_film

from mmattn.data.load.reader import ClipReader
from mmattn.errors import UsageError
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.reading.piece import Piece
from mmattn.media.write.video import write_video

BRIGHT, LOUD, SECONDS = (3.0, 6.0), (8.0, 10.0), 12.5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", SECONDS, BRIGHT, LOUD)


def _record(predictor: Predictor, path: Path) -> dict:
    return next(predictor.records([path]))


def _tags(record: dict) -> dict[str, dict]:
    assert record["status"] == "ok", record
    return {tag["tag"]: tag for tag in record["tags"]}


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_segments_are_where_things_are(film: Path, step: float, batch_size: int) -> None:
    record = _record(Predictor(rules(), span_step_s=step, batch_size=batch_size), film)
    tags = _tags(record)
    assert tags.keys() == {"bright", "loud", "time/day", "time/night"}
    for tag, (start, end) in (("bright", BRIGHT), ("loud", LOUD), ("time/day", BRIGHT)):
        ((first, last),) = tags[tag]["segments"]
        assert first == pytest.approx(start, abs=step / 2 + 0.13) and last == pytest.approx(end, abs=step / 2 + 0.13)
        assert tags[tag]["score"] == pytest.approx(1.0, abs=0.05), "at its surest"
    night = tags["time/night"]["segments"]
    assert [night[0][0], night[-1][1]] == [0.0, pytest.approx(SECONDS, abs=0.1)]
    (day,) = tags["time/day"]["segments"]
    assert [night[0][1], night[1][0]] == day, "one of a group at any time"
    assert record["spans"] == [[0.0, pytest.approx(SECONDS, abs=0.1)]]
    assert record["modality"]["used"] == ["video", "audio"]
    assert (tags["bright"]["video"], tags["bright"]["audio"]) == (tags["bright"]["score"], 0)
    assert (tags["loud"]["video"], tags["loud"]["audio"]) == (0, tags["loud"]["score"])


def test_a_window_says_what_a_span_there_says(film: Path) -> None:
    """The windows of one pass hold what reading each span by itself gives."""
    predictor = Predictor(rules(), span_step_s=0.5)
    assert predictor.over_time is not None
    for number, (clip, _) in enumerate(predictor.over_time.read(Piece(film), ClipReader(isolated=False), set())):
        alone, windowed = CLIP.prepare(CLIP.read(film, number * 0.5)), CLIP.prepare(clip)
        assert (alone.frames == windowed.frames).all() and (alone.frame_keep == windowed.frame_keep).all()
        assert (alone.spectrogram - windowed.spectrogram).abs().max() < 1e-3
    assert number == 23  # the last begins at 11.5 s and reaches the end


def test_an_isolated_reader_gives_the_same(film: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    with_process = ClipReader(threads=1)
    predictor = Predictor(rules(), span_step_s=0.5, reader=with_process)
    first, bad, again = predictor.records([film, tmp_path / "text.mp4", film])
    with_process.close()
    assert first == again == _record(Predictor(rules(), span_step_s=0.5), film)
    assert (bad["status"], bad["reason"]) == ("failed", "not_media")


def test_short_soundless_silent_and_still_files_have_times_too(tmp_path: Path) -> None:
    white = np.full((8, 32, 32, 3), 255, np.uint8)
    write_video(tmp_path / "short.mp4", white, FPS)
    Image.fromarray(white[0]).save(tmp_path / "still.png")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    write_video(tmp_path / "sound.m4a", None, FPS, tone)
    predictor = Predictor(rules(), span_step_s=0.5)
    short, still, sound = (_record(predictor, tmp_path / name) for name in ("short.mp4", "still.png", "sound.m4a"))
    assert _tags(short)["bright"]["segments"] == [[0.0, pytest.approx(0.5, abs=0.05)]]
    assert _tags(still).keys() == {"bright", "time/day"}
    assert still["modality"]["used"] == ["video"]
    ((start, end),) = _tags(sound)["loud"]["segments"]
    assert (start, end) == (0.0, pytest.approx(3.0, abs=0.1)) and sound["modality"]["used"] == ["audio"]


def test_a_file_that_breaks_off_keeps_what_was_found(film: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    frames = np.full((FPS * 8, 32, 32, 3), 255, np.uint8)
    write_video(cut, frames, FPS)
    data = cut.read_bytes()
    cut.write_bytes(data[: int(len(data) * 0.6)])
    record = _record(Predictor(rules(), span_step_s=0.5), cut)
    assert "truncated" in record["issues"]
    ((start, _),) = _tags(record)["bright"]["segments"]
    assert start == 0


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, float("nan"), 1e-5])
def test_a_step_must_fit_the_trained_clip(step: float) -> None:
    with pytest.raises(UsageError, match=r"span_step_s=.*to 1 s"):
        Predictor(rules(), span_step_s=step)


def test_memory_does_not_grow_with_the_duration(tmp_path: Path) -> None:
    """What Python and numpy hold at most, for files of 20 s and 160 s."""

    def peak(seconds: float) -> int:
        path = write_film(tmp_path / f"{seconds}.mp4", seconds, BRIGHT, LOUD)
        predictor = Predictor(rules(), span_step_s=1.0, batch_size=4)
        tracemalloc.start()
        record = _record(predictor, path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert record["spans"] == [[0.0, pytest.approx(seconds, abs=0.1)]]
        return most

    peak(20)  # what is imported and cached
    assert peak(160) < 1.3 * peak(20) + 200_000
