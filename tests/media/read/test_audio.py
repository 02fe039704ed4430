"""read_clip's sound: where it lies on the clip's clock, how channels become one, what is filled in."""

from pathlib import Path

import numpy as np
import pytest
from media_clips import movie, muxed, tone

from mmattn.media.read.decode import read_clip
from mmattn.media.write.video import write_video


def click(at: float, seconds: float, rate: int) -> np.ndarray:
    times = np.arange(round(rate * seconds)) / rate
    return (0.8 * np.exp(-(((times - at) / 0.0005) ** 2))).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("start", [0.0, 0.1])
def test_written_sound_is_read_within_a_millisecond(tmp_path: Path, rate: int, start: float):
    write_video(tmp_path / "a.mp4", None, 25, click(0.3, 0.5, rate), rate)
    clip = read_clip(tmp_path / "a.mp4", video=False, start=start)
    assert clip.sample_rate == 16000 and clip.audio_start == start
    assert abs(np.abs(clip.waveform.numpy()).argmax() / 16000 + start - 0.3) < 0.001


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resampling_keeps_length_gain_and_tail(tmp_path: Path, rate: int):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, tone(1.0, rate)[None])], rate=rate)
    heard = read_clip(path, video=False).waveform.numpy()
    assert abs(len(heard) - 16000) <= 1
    np.testing.assert_allclose(heard[200:-200], tone(1.0)[200 : len(heard) - 200], atol=0.01)
    assert np.abs(heard[-100:]).max() > 0.3


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 6)])
def test_the_downmix_mean_is_the_plain_mean(tmp_path: Path, layout: str, channels: int):
    signal = np.random.default_rng(0).uniform(-1, 1, (channels, 1600)).astype(np.float32)
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, signal)], layout=layout)
    heard = read_clip(path, video=False, downmix="mean").waveform.numpy()
    np.testing.assert_allclose(heard, signal.mean(axis=0), atol=1e-6)


def test_late_sound_is_preceded_by_zeros(tmp_path: Path):
    path = muxed(tmp_path / "a.mkv", list(range(0, 1000, 100)), [(0.5, np.full((1, 8000), 0.5, np.float32))])
    clip = read_clip(path, frames=1)
    heard = clip.waveform.numpy()
    assert "late_audio" in clip.issues and len(heard) == 16000
    assert not heard[:7990].any() and (heard[8010:] == 0.5).all()


def test_a_gap_is_filled_with_zeros(tmp_path: Path):
    piece = np.full((1, 1600), 0.5, np.float32)
    path = muxed(tmp_path / "a.mkv", sounds=[(0.0, piece), (0.5, piece)])
    clip = read_clip(path, video=False)
    heard = clip.waveform.numpy()
    assert "gap" in clip.issues and len(heard) == 9600
    assert (heard[:1600] == 0.5).all() and not heard[1600:8000].any() and (heard[8000:] == 0.5).all()


def test_a_span_is_cut_out_of_the_sound(tmp_path: Path):
    signal = np.linspace(-1, 1, 16000, dtype=np.float32)[None]
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, signal)])
    heard = read_clip(path, video=False, start=0.25, end=0.75).waveform.numpy()
    np.testing.assert_array_equal(heard, signal[0, 4000:12000])


def test_a_far_span_equals_the_same_span_of_the_whole(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", count=25, fps=1)
    whole = read_clip(path, video=False).waveform.numpy()
    part = read_clip(path, video=False, start=15.0, end=20.0).waveform.numpy()
    np.testing.assert_allclose(part, whole[15 * 16000 : 20 * 16000], atol=1e-4)


def test_silence_is_sound_with_an_issue(tmp_path: Path):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, np.zeros((1, 1600), np.float32))])
    clip = read_clip(path, video=False)
    assert len(clip.waveform) == 1600 and "silent_audio" in clip.issues


def test_samples_above_full_scale_are_clipped(tmp_path: Path):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, np.full((1, 1600), 3.0, np.float32))])
    assert read_clip(path, video=False).waveform.max() == 1.0


def test_the_file_keeps_its_own_rate_on_request(tmp_path: Path):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, tone(0.5, 22050)[None])], rate=22050)
    clip = read_clip(path, video=False, audio_rate=None)
    assert clip.sample_rate == 22050 and len(clip.waveform) == 11025
