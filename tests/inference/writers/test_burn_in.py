"""Videos with text in them: shown when it is said, the rest as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hostile_records import HOSTILE, record

from mmattn.inference.writers.burn_in import BurnIn
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.write.video import write_video

FPS, SIZE, RATE = 25, (96, 128), 16000


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """2 s of light grey, longer than one piece of memory would be at a fifth of the rate, with a tone."""
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE).astype(np.float32)
    write_video(tmp_path / "film.mp4", np.full((5 * FPS, *SIZE, 3), 200, np.uint8), FPS, tone)
    return tmp_path / "film.mp4"


def captioned(path: Path, start: float, end: float, text: str) -> dict:
    line = record("sub/film.mp4", text, path=str(path), spans=[[0.0, 5.0]])
    line["captions"][0] |= {"start": start, "end": end}
    return line


def frames_of(reader: IsolatedReader, path: Path, fps: float = FPS) -> np.ndarray:
    """(T, H, W), grey."""
    clip = reader.read(path, Request(fps=fps, end=5.0))
    assert clip.frames is not None
    return clip.frames.float().mean(dim=1).numpy()


def test_a_caption_is_shown_from_its_first_frame_to_its_last(reader: IsolatedReader, film: Path, tmp_path: Path):
    burn = BurnIn(tmp_path / "out", SIZE[0], overwrite=False)
    given = [captioned(film, 1.0, 4.2, "a dog barks")]
    assert burn.write(given, tmp_path / "ledger", reader) == Counter(written=1)
    made = tmp_path / "out" / "sub" / "film.mp4"
    frames = frames_of(reader, made)
    assert frames.shape == (5 * FPS, *SIZE)
    foot = frames[:, -8:].mean(axis=(1, 2))
    shown = np.flatnonzero(foot < 150)
    assert (shown[0], shown[-1], len(shown)) == (25, 104, 80), "from 1.0 s until 4.2 s"
    assert np.abs(frames[:, : SIZE[0] // 2] - 200).max() < 12, "the rest of the picture stays"
    assert frames[50, -20:].max() > 220, "the text is lighter than the picture"
    clip = reader.read(made, Request(video=False, audio_rate=RATE))
    assert clip.waveform is not None
    before = reader.read(film, Request(video=False, audio_rate=RATE)).waveform
    assert before is not None and abs(len(clip.waveform) - len(before)) < RATE // 10
    assert np.corrcoef(clip.waveform[1600:70000], before[1600:70000])[0, 1] > 0.98, "in time"


def test_only_what_would_differ_is_made_again(reader: IsolatedReader, film: Path, tmp_path: Path):
    burn, ledger = BurnIn(tmp_path / "out", 64, overwrite=False), tmp_path / "ledger"
    made = tmp_path / "out" / "sub" / "film.mp4"
    burn.write([captioned(film, 1.0, 2.0, "one")], ledger, reader)
    stamp = made.stat().st_mtime_ns
    burn.write([captioned(film, 1.0, 2.0, "one")], ledger, reader)
    assert made.stat().st_mtime_ns == stamp
    burn.write([captioned(film, 1.0, 2.0, "two")], ledger, reader)
    assert made.stat().st_mtime_ns != stamp
    made.write_bytes(b"cut by hand")
    assert burn.write([captioned(film, 1.0, 2.0, "one")], ledger, reader) == Counter(kept=1)
    assert [path.name for path in made.parent.iterdir()] == ["film.mp4"], "nothing half made lies about"


def test_tags_without_times_stand_all_the_time(reader: IsolatedReader, film: Path, tmp_path: Path):
    tagged = record("film.mp4", path=str(film), spans=[[0.0, 5.0]])
    BurnIn(tmp_path / "out", SIZE[0], overwrite=False).write([tagged], tmp_path / "ledger", reader)
    assert (frames_of(reader, tmp_path / "out" / "film.mp4", 2)[:, -8:].mean(axis=(1, 2)) < 150).all()


def test_bad_soundless_and_pictureless_files_and_hostile_texts(reader: IsolatedReader, tmp_path: Path):
    still = np.full((10, 34, 50, 3), 200, np.uint8)
    write_video(tmp_path / "silent.mkv", still, 10)
    (tmp_path / "text.mp4").write_text("no film")
    given = [
        record("silent.mkv", *HOSTILE, "word" * 500, path=str(tmp_path / "silent.mkv")),
        record("gone.mp4", "x", path=str(tmp_path / "gone.mp4")),
        record("text.mp4", "x", path=str(tmp_path / "text.mp4")),
        record("none.mkv", path=str(tmp_path / "silent.mkv"), tags=[]),
        record("sound.wav", "x", path="x", modality={"used": ["audio"], "shapley": None, "attention": None}),
    ]
    given[0]["captions"] = [each | {"start": 0.0, "end": 1.0} for each in given[0]["captions"]]
    counts = BurnIn(tmp_path / "out", 64, overwrite=False).write(given, tmp_path / "ledger", reader)
    assert counts == Counter(written=1, unreadable=2, nothing=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["silent.mp4"]
    assert frames_of(reader, tmp_path / "out" / "silent.mp4", 10).shape[1] == 64
