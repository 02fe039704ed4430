"""iter_windows: what read_clip gives for each window's span, in one pass and bounded memory."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_bytes import remuxed
from media_clips import indices, many_streams, movie, muxed, numbered, tone

from mmattn.errors import MediaError
from mmattn.media.open.container import Limits
from mmattn.media.read.decode import read_clip
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.write.video import write_video


def noise(seconds: float, rate: int = 16000) -> np.ndarray:
    """(1, N) float32: any sample out of its place is seen."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (1, round(seconds * rate))).astype(np.float32)


def _encoded(path: Path, rate: int) -> Path:
    write_video(path, numbered(28), 10, noise(2.8, rate)[0], rate, options={"bf": "3", "crf": "10", "g": "12"})
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "mp4": lambda folder: _encoded(folder / "a.mp4", 44100),
    "mkv": lambda folder: _encoded(folder / "a.mkv", 48000),
    "ts": lambda folder: _written(folder / "a.ts", remuxed(_encoded(folder / "a.mp4", 22050), "mpegts")),
    "variable": lambda folder: muxed(folder / "a.mkv", [0, 10, 200, 210, 900, 1000, 1700, 2400], [(0.0, noise(2.5))]),
    "late sound": lambda folder: muxed(folder / "a.mkv", list(range(0, 2000, 80)), [(0.9, noise(1.0))]),
    "late picture": lambda folder: muxed(folder / "a.mkv", list(range(1300, 2600, 100)), [(0.0, noise(2.5))]),
    "gap": lambda folder: muxed(folder / "a.mkv", [0, 100], [(0.0, noise(0.5)), (1.5, noise(0.7))]),
    "long sound": lambda folder: muxed(folder / "a.mkv", [0, 100, 200], [(0.0, noise(2.3))]),
    "no sound": lambda folder: muxed(folder / "a.mkv", list(range(0, 2000, 80))),
    "no picture": lambda folder: muxed(folder / "a.wav", sounds=[(0.0, noise(2.3, 8000))], rate=8000),
}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("window", "hop"), [(0.7, 0.3), (0.5, 0.5), (0.4, 0.9)])
@pytest.mark.parametrize("grid", [{"fps": 10}, {"frames": 3}], ids=["fps", "frames"])
def test_a_window_is_what_read_clip_gives_for_its_span(
    tmp_path: Path, name: str, window: float, hop: float, grid: dict
):
    path = FILES[name](tmp_path)
    clips = list(iter_windows(path, window, hop, **grid))
    for k, clip in enumerate(clips):
        expected = read_clip(path, start=k * hop, end=k * hop + window, **grid)
        assert clip.frame_times.tolist() == expected.frame_times.tolist()
        assert (clip.frames is None) == (expected.frames is None)
        assert clip.frames is None or torch.equal(clip.frames, expected.frames)
        assert (clip.waveform is None) == (expected.waveform is None)
        if clip.waveform is not None:
            assert len(clip.waveform) == len(expected.waveform)
            assert (clip.waveform - expected.waveform).abs().max() < 1e-4, k
        assert (clip.span, clip.audio_start, clip.sample_rate) == (
            expected.span,
            expected.audio_start,
            expected.sample_rate,
        )
        assert (clip.duration, clip.source) == (expected.duration, expected.source)
    whole = read_clip(path, **grid)
    ends = [len(whole.waveform) / 16000] if whole.waveform is not None else []
    ends += [float(read_clip(path, fps=100).frame_times[-1])] if whole.frames is not None else []
    assert (len(clips) - 1) * hop + window > max(ends) - 0.15 or hop > window  # all is covered,
    assert len(clips) == 1 or (len(clips) - 2) * hop + window < max(ends)  # and by no more than it takes


def test_the_last_window_holds_what_is_left(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", list(range(0, 1000, 40)), [(0.0, tone(1.0)[None])])
    clips = list(iter_windows(path, 0.4, fps=25))
    assert [clip.span for clip in clips] == [(0.0, 0.4), (0.4, 0.8), (0.8, 1.2000000000000002)]
    assert [indices(clip.frames) for clip in clips] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert [len(clip.waveform) for clip in clips] == [6400, 6400, 3200]


def test_a_window_longer_than_the_file_is_the_only_one(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", count=5)
    (clip,) = iter_windows(path, 60.0, fps=25)
    assert indices(clip.frames) == list(range(5))


def test_streams_are_chosen_as_by_read_clip(tmp_path: Path):
    path = many_streams(tmp_path / "a.mkv", [40, 200], [(400, "und"), (800, "eng")])
    for clip in iter_windows(path.read_bytes(), 0.5, frames=2, video_stream=1, audio_stream="eng"):
        assert abs(clip.frames.float().mean() - 200) < 3 and clip.source == "<bytes>"
        assert np.abs(np.fft.rfft(clip.waveform.numpy())).argmax() == 400  # of 0.5 s: 800 Hz


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_s": 0},
        {"window_s": float("nan")},
        {"hop_s": 0.0},
        {"hop_s": 1e-9},
        {"hop_s": -1.0},
        {"fps": 0},
        {"size": (0, 1)},
    ],
)
def test_a_wrong_question_is_a_value_error_at_once(wrong: dict):
    with pytest.raises(ValueError):
        iter_windows("nothing.mp4", **({"window_s": 1.0, "fps": 1} | wrong))


def test_errors_come_when_the_file_is_met(tmp_path: Path):
    windows = iter_windows(tmp_path / "nothing.mp4", 1.0, fps=1)
    with pytest.raises(MediaError, match="unreadable"):
        next(windows)
    path = movie(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="too_large"):
        next(iter_windows(path, 0.5, fps=25, limits=Limits(decoded_bytes=10_000)))
    with pytest.raises(MediaError, match="timeout"):
        next(iter_windows(path, 0.5, fps=25, deadline_s=0.0))


def test_the_deadline_is_for_each_window_and_not_for_the_caller(tmp_path: Path):
    path = movie(tmp_path / "a.mp4")
    for clip in iter_windows(path, 0.2, fps=25, deadline_s=0.5):
        time.sleep(0.15)  # five of these are beyond it
        assert clip.frames is not None


def test_a_file_cut_off_is_said_in_its_last_window(tmp_path: Path):
    whole = tmp_path / "a.mkv"
    write_video(whole, numbered(28), 5, np.zeros(16000 * 5, np.float32), options={"crf": "1", "bf": "0"})
    clips = list(iter_windows(whole.read_bytes()[: whole.stat().st_size // 2], 1.0, fps=5))
    assert ["truncated" in clip.issues for clip in clips] == [False] * (len(clips) - 1) + [True]


@pytest.fixture(scope="module")
def half_hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour of 16 x 16 at 2 fps, its sound after all of its picture: 115 MB of waveform."""
    path = tmp_path_factory.mktemp("long") / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=2, options={"g": "20"})
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        audio = container.add_stream("flac", rate=8000)
        audio.codec_context.layout, audio.codec_context.format = "mono", "s16"
        for k in range(3600):
            image = np.full((16, 16, 3), 16 + k % 200, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        ramp = np.arange(8000 * 60, dtype=np.int16)[None]
        for minute in range(30):
            sound = av.AudioFrame.from_ndarray(ramp, format="s16", layout="mono")
            sound.sample_rate, sound.pts = 8000, minute * 8000 * 60
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from /proc")
def test_memory_does_not_grow_with_the_file(half_hour: Path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    windows, levels = iter_windows(half_hour, 10.0, 8.0, fps=2), []
    for clip in windows:
        assert len(clip.frames) == 20 or clip.span[1] > 1800
        levels.append(resident())
    assert len(levels) == 225
    assert max(levels[50:]) - min(levels[50:]) < 8 << 20
    assert max(levels) - levels[50] < 8 << 20


def test_leaving_early_closes_the_file(tmp_path: Path):
    path, folder = movie(tmp_path / "a.mp4"), Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.exists() else 0
    windows = iter_windows(path, 0.2, fps=25)
    assert len(list(islice(windows, 2))) == 2
    windows.close()
    assert not folder.exists() or len(list(folder.iterdir())) == before
