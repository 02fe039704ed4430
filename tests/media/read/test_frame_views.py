"""One decode, several views of the picture: each shows what a decode of its own would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.inference.reading.piece import Piece
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import decode_windows
from mmattn.media.read.windows.layout import Windows
from mmattn.media.read.windows.views import FrameView
from mmattn.media.write.video import write_video
from mmattn.types import Clip

VIEWS = (FrameView(10.0, (24, 40)), FrameView(0.7, None, "stretch"), FrameView(3.0, (32, 32), "crop"))
REQUEST = Request(fps=2.0, end=1.0, size=(48, 48), fit="pad")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "a.mkv"
    frames = np.random.default_rng(0).integers(0, 255, (69, 64, 96, 3), dtype=np.uint8)
    write_video(path, frames, 7, 0.1 * np.random.default_rng(1).standard_normal(9 * 16000).astype(np.float32))
    return path


def _shown(clip: Clip) -> list[tuple[torch.Tensor | None, torch.Tensor]]:
    return [(clip.frames, clip.frame_times), *((view.frames, view.times) for view in clip.views)]


@pytest.mark.parametrize(("window_s", "hop_s"), [(3.0, 3.0), (3.5, 3.0), (2.0, 3.0), (20.0, 20.0)])
@pytest.mark.parametrize("isolated", [False, True])
def test_each_view_is_what_a_decode_of_its_own_gives(window_s: float, hop_s: float, isolated: bool, film: Path) -> None:
    windows = Windows(window_s, hop_s, REQUEST, VIEWS)
    if isolated:
        with IsolatedReader() as reader:
            together = list(reader.windows(film, windows))
    else:
        together = [part.clip() for part in decode_windows(windows, film)]
    alone = [Windows(window_s, hop_s, REQUEST), *(Windows(window_s, hop_s, view.of(REQUEST)) for view in VIEWS)]
    for number, one in enumerate(alone):
        clips = [part.clip() for part in decode_windows(one, film)]
        assert len(clips) == len(together)
        for clip, whole in zip(clips, together, strict=True):
            frames, times = _shown(whole)[number]
            assert clip.frames is not None and frames is not None
            assert torch.equal(frames, clip.frames) and torch.equal(times, clip.frame_times)
            assert whole.waveform is not None and clip.waveform is not None
            assert torch.equal(whole.waveform, clip.waveform) and whole.issues == clip.issues


def test_a_file_without_a_picture_has_empty_views(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", None, 5, np.zeros(16000, np.float32) + 0.1)
    with IsolatedReader() as reader:
        (clip,) = reader.windows(tmp_path / "a.mkv", Windows(3.0, 3.0, REQUEST, VIEWS))
    assert [frames for frames, _ in _shown(clip)] == [None] * 4
    assert [len(times) for _, times in _shown(clip)] == [0] * 4


def test_a_part_of_a_file_ends_in_every_view(film: Path) -> None:
    with IsolatedReader() as reader:
        clips = list(Piece(film, 1.0, 5.0).windows(reader, Windows(3.0, 3.0, REQUEST, VIEWS)))
    for number in range(4):
        times = torch.cat([_shown(clip)[number][1] for clip in clips])
        assert times[0] == 1.0 and times[-1] < 5.0 and len(times) > 2


def test_views_of_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="views are of the video"):
        Windows(1.0, 1.0, replace(REQUEST, video=False), VIEWS)
    with pytest.raises(ValueError, match="fps must be"):
        Windows(1.0, 1.0, REQUEST, (FrameView(-1.0),))


@pytest.mark.parametrize("isolated", [False, True])
def test_sound_at_other_rates_is_what_a_decode_of_its_own_gives(isolated: bool, film: Path) -> None:
    rates = (48000, 8000)
    windows = Windows(3.5, 3.0, REQUEST, audio_rates=rates)
    if isolated:
        with IsolatedReader() as reader:
            together = list(reader.windows(film, windows))
    else:
        together = [part.clip() for part in decode_windows(windows, film)]
    for number, rate in enumerate(rates):
        alone = Windows(3.5, 3.0, replace(REQUEST, audio_rate=rate))
        clips = [part.clip() for part in decode_windows(alone, film)]
        assert len(clips) == len(together) > 1
        for clip, whole in zip(clips, together, strict=True):
            sound = whole.sounds[number]
            assert sound is not None and clip.waveform is not None and torch.equal(sound, clip.waveform)
    with IsolatedReader() as reader:
        part = list(Piece(film, 1.0, 5.0).windows(reader, windows))
    assert part[-1].waveform is not None and part[-1].sounds[0] is not None
    assert len(part[-1].sounds[0]) == 3 * len(part[-1].waveform) == 48000


def test_a_silent_film_has_no_sound_at_any_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", np.full((10, 32, 32, 3), 90, np.uint8), 5)
    with IsolatedReader() as reader:
        (clip,) = reader.windows(tmp_path / "a.mkv", Windows(3.0, 3.0, REQUEST, audio_rates=(48000,)))
    assert clip.waveform is None and clip.sounds == (None,)


@pytest.mark.parametrize("fps", [1.0, 8.0, 12.5, 23.976, 25.0])
@pytest.mark.parametrize("hop_s", [0.48, 9.6, 7.3])
def test_middles_are_those_of_the_file_wherever_windows_begin(fps: float, hop_s: float) -> None:
    view = FrameView(fps, (8, 8), middles=True)
    parts = [view.grid(k * hop_s, (k + 1) * hop_s) for k in range(20)]
    whole = (np.arange(round(20 * hop_s * fps) + 1) + 0.5) / fps
    together = np.concatenate(parts)
    assert np.array_equal(together, whole[whole < 20 * hop_s - 1e-9])
