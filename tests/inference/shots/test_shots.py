"""Files read shot by shot, on films whose cuts are known, by a model whose rule is known."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tagging_rules import CLIP, FPS, RATE, rules, write_film

from mmattn.data.load.reader import ClipReader
from mmattn.errors import UsageError
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.reading.piece import Piece
from mmattn.inference.shots.cuts import find_cuts
from mmattn.inference.shots.shot_reader import ShotReader
from mmattn.media.write.video import write_video

pytest.importorskip("scenedetect")
BRIGHT, LOUD, SECONDS = (3.0, 6.0), (8.0, 10.0), 12.5
FRAME_S = 1 / FPS


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mkv", SECONDS, BRIGHT, LOUD)


@pytest.fixture
def reader() -> ClipReader:
    return ClipReader(isolated=False, threads=1)


def _spans(piece: Piece, reader: ClipReader) -> list[tuple[float, float]]:
    shots = ShotReader(CLIP, Predictor(rules()).canvas)
    return [clip.span for clip, _ in shots.read(piece, reader, set())]


def test_cuts_are_found_to_a_frame(film: Path, reader: ClipReader) -> None:
    cuts, end = find_cuts(Piece(film), reader, set())
    assert cuts == pytest.approx(BRIGHT, abs=FRAME_S) and end == pytest.approx(SECONDS, abs=0.1)


def test_spans_cover_the_file_and_cross_no_cut(film: Path, reader: ClipReader) -> None:
    cuts, end = find_cuts(Piece(film), reader, set())
    spans = _spans(Piece(film), reader)
    assert (spans[0][0], spans[-1][1]) == (0.0, end)
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert all(start < stop <= start + 1.1 * CLIP.seconds for start, stop in spans)
    assert set(cuts) <= {start for start, _ in spans}
    assert len(spans) == 3 + 3 + 7


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("isolated", [False, True])
def test_what_begins_and_ends_with_a_shot_has_its_times(film: Path, batch_size: int, isolated: bool) -> None:
    reader = ClipReader(isolated=isolated, threads=2)
    record = next(Predictor(rules(), shots=True, reader=reader, batch_size=batch_size).records([film]))
    reader.close()
    tags = {tag["tag"]: tag for tag in record["tags"]}
    assert record["status"] == "ok"
    assert record["spans"] == [[0.0, pytest.approx(SECONDS, abs=0.1)]]
    for name in ("bright", "time/day"):
        assert tags[name]["segments"] == [[pytest.approx(at, abs=FRAME_S) for at in BRIGHT]]
        assert tags[name]["score"] == pytest.approx(1.0, abs=0.02), "a span of another shot would be darker"
    ((first, last),) = tags["loud"]["segments"]
    assert first == pytest.approx(LOUD[0], abs=1.1) and last == pytest.approx(LOUD[1], abs=1.1)


def test_a_part_of_a_file_is_cut_as_the_file_is(film: Path, reader: ClipReader) -> None:
    spans = _spans(Piece(film, 2.0, 7.0), reader)
    assert (spans[0][0], spans[-1][1]) == (2.0, pytest.approx(7.0, abs=0.05))
    edges = [start for start, _ in spans]
    assert all(any(abs(edge - cut) <= FRAME_S for edge in edges) for cut in BRIGHT)


def test_without_a_moving_picture_a_file_is_one_shot(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(3.3 * RATE)) / RATE).astype(np.float32)
    write_video(tmp_path / "sound.m4a", None, FPS, tone)
    Image.new("RGB", (32, 32), "white").save(tmp_path / "still.png")
    predictor = Predictor(rules(), shots=True)
    sound, still = predictor.records([tmp_path / "sound.m4a", tmp_path / "still.png"])
    assert sound["modality"]["used"] == ["audio"] and sound["spans"] == [[0.0, pytest.approx(3.3, abs=0.1)]]
    assert {tag["tag"] for tag in sound["tags"]} >= {"loud"}
    assert still["modality"]["used"] == ["video"] and {tag["tag"] for tag in still["tags"]} == {"bright", "time/day"}


def test_a_file_that_breaks_off_keeps_what_was_found(film: Path, tmp_path: Path) -> None:
    whole = film.read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "none.mkv").write_bytes(b"")
    half, none = Predictor(rules(), shots=True).records([tmp_path / "half.mkv", tmp_path / "none.mkv"])
    assert half["status"] == "ok" and half["issues"] and 3.0 < half["spans"][0][1] < SECONDS
    assert none["status"] == "failed"


def test_wrong_wishes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="choose one"):
        Predictor(rules(), shots=True, span_step_s=0.5)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mmattn\[shots\]"):
        Predictor(rules(), shots=True)
