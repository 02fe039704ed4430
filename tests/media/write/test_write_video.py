"""What write_video promises: the sound stays where it was put, the same bytes twice, all or nothing."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmattn.media.write.video import write_video

FRAMES = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.full((12, 32, 48, 3), 16, np.uint8)


def click(rate: int, at: float, seconds: float = 0.5) -> np.ndarray:
    """Silence with one smooth click of 2 ms centred on `at` seconds."""
    times = np.arange(int(rate * seconds)) / rate
    return (0.8 * np.exp(-(((times - at) / 0.0005) ** 2))).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "flac"), (".mov", "pcm_s16le")])
def test_the_sound_stays_where_it_was_put(tmp_path: Path, rate: int, suffix: str, codec: str):
    path = tmp_path / f"a{suffix}"
    write_video(path, FRAMES, 25, click(rate, 0.3), rate, audio_codec=codec)
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        assert frames[0].pts == 0
        heard = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    assert abs(np.argmax(np.abs(heard)) / rate - 0.3) < 0.001


def test_the_same_input_gives_the_same_bytes(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, FRAMES, Fraction(30000, 1001), click(16000, 0.1))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("which", ["video", "audio"])
def test_either_stream_may_be_missing(tmp_path: Path, which: str):
    frames, sound = (FRAMES, None) if which == "video" else (None, click(16000, 0.1))
    write_video(tmp_path / "a.mp4", frames, 25, sound)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [stream.type for stream in container.streams] == [which]


def test_the_codec_in_the_file_is_h264_and_aac(tmp_path: Path):
    write_video(tmp_path / "a.mp4", FRAMES, 25, click(16000, 0.1))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.name == "aac"


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(av.FFmpegError):
        write_video(path, FRAMES, 25, options={"preset": "no such preset"})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("frames", "waveform", "suffix"),
    [
        (None, None, ".mp4"),
        (FRAMES[0], None, ".mp4"),
        (FRAMES.astype(np.float32), None, ".mp4"),
        (FRAMES[:, :31], None, ".mp4"),
        (FRAMES[:0], None, ".mp4"),
        (FRAMES, np.zeros((2, 9), np.float32), ".mp4"),
        (FRAMES, np.zeros(9), ".mp4"),
        (FRAMES, None, ".exe"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, frames, waveform, suffix: str):
    with pytest.raises(ValueError):
        write_video(tmp_path / f"a{suffix}", frames, 25, waveform)
