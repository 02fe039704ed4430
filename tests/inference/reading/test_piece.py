"""A part of a file is answered as if it were the file: rows of a manifest with start and end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tagging_rules import rules, write_film

from mmattn.data.load.reader import ClipReader
from mmattn.inference.jobs.listing import list_source
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.reading.piece import Piece
from mmattn.media import Request, read_clip
from mmattn.media.read.windows.layout import Windows

BRIGHT, LOUD = (3.0, 6.0), (8.0, 10.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", 12.5, BRIGHT, LOUD)


def test_a_row_with_start_and_end_is_that_part_of_its_file(film: Path, tmp_path: Path):
    rows = [
        {"id": "day", "path": str(film), "start": 3.0, "end": 6.0},
        {"id": "noise", "path": str(film), "start": 8.0},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"id": "all", "path": str(film)}])))
    entries = list_source(str(tmp_path / "m.jsonl")).entries
    assert [type(entry)(**json.loads(json.dumps(entry.to_dict()))) for entry in entries] == entries
    assert not any(entry.changed() for entry in entries) and [entry.as_it_is() for entry in entries] == entries
    assert [(entry.piece.start, entry.piece.end) for entry in entries] == [(3.0, 6.0), (8.0, None), (0.0, None)]
    day, noise, _ = Predictor(rules(), windows=20).records(entry.piece for entry in entries)
    assert {tag["tag"] for tag in day["tags"]} == {"bright", "time/day"}
    assert day["spans"][0][0] == 3.0 and day["spans"][-1][1] == pytest.approx(6.0)
    assert noise["spans"][0][0] == 8.0 and noise["spans"][-1][1] == pytest.approx(12.5, abs=0.1)
    assert "time/night" in {tag["tag"] for tag in noise["tags"]}


@pytest.mark.parametrize(("start", "end"), [(2.0, 7.0), (4.3, 5.2), (2.0, None), (0.0, 4.0), (11.0, 20.0)])
def test_sliding_windows_stay_inside_their_part(film: Path, start: float, end: float | None):
    record = next(Predictor(rules(), span_step_s=0.5).records([Piece(film, start, end)]))
    until = min(end or 12.5, 12.5)
    assert record["status"] == "ok"
    assert record["spans"] == [[start, pytest.approx(until, abs=0.1)]]
    segments = {tag["tag"]: tag["segments"] for tag in record["tags"]}
    assert all(start <= a < b <= until + 0.1 for found in segments.values() for a, b in found)
    seen = max(start, BRIGHT[0]), min(until, BRIGHT[1])
    if seen[0] < seen[1]:
        ((first, last),) = segments["bright"]
        assert first == pytest.approx(seen[0], abs=0.4) and last == pytest.approx(seen[1], abs=0.4)
    else:
        assert "bright" not in segments


@pytest.mark.parametrize("isolated", [False, True])
def test_a_window_of_a_part_is_what_reading_it_gives(film: Path, isolated: bool):
    asked = Windows(1.0, 0.7, Request(fps=8, end=1.0, size=(16, 16)))
    reader = ClipReader(isolated=isolated, threads=1)
    clips = list(Piece(film, 2.5, 6.0).windows(reader, asked))
    reader.close()
    assert [clip.span[0] for clip in clips] == pytest.approx([2.5, 3.2, 3.9, 4.6, 5.3])
    for clip in clips:
        start, end = clip.span
        alone = read_clip(film, fps=8, start=start, end=end, size=(16, 16))
        assert alone.frames is not None and clip.frames is not None and clip.waveform is not None
        assert alone.waveform is not None
        there = alone.frame_times < 6.0
        assert torch.equal(clip.frames, alone.frames[there])
        assert torch.equal(clip.frame_times, alone.frame_times[there])
        wanted = alone.waveform[: round((6.0 - alone.audio_start) * alone.sample_rate)]
        torch.testing.assert_close(clip.waveform, wanted, atol=1e-4, rtol=0)
        assert clip.duration == pytest.approx(6.0)
