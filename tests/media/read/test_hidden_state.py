"""Codecs whose packets need more of the file than the container tells: read like everything decoded in turn."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from media_beeps import BEEPS, beep_file, heard_at

from mmattn.media.read.decode import read_clip
from mmattn.media.read.windows.iterate import iter_windows

RATE = 22050


@pytest.mark.parametrize(("container", "codec"), [("h263", "h263"), ("h261", "h261")])
def test_a_frame_is_not_decoded_without_those_it_refers_to(tmp_path: Path, container: str, codec: str):
    """FFmpeg's parsers take every packet of these codecs for a key frame."""
    path, rng = tmp_path / "a.bin", np.random.default_rng(0)
    picture = rng.integers(0, 255, (288, 352, 3), np.uint8)
    with av.open(str(path), "w", format=container) as film:
        stream = film.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 352, 288, "yuv420p", 60
        for k in range(60):
            picture[:, 6 * k : 6 * k + 6] = 255  # a bar grows over a picture that is sent only once
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    with av.open(str(path)) as film:
        plain = [frame.to_ndarray(format="gray").astype(int) for frame in film.decode(video=0)]
        times = [frame.time for frame in av.open(str(path)).decode(video=0)]
    chosen = [5, 31, 32, 58]
    clip = read_clip(path, times=[times[k] - times[0] + 0.005 for k in chosen], size=(288, 352))
    for image, k in zip(clip.frames.float().mean(dim=1).numpy(), chosen, strict=True):
        away = [np.abs(image - other).mean() for other in plain]
        assert int(np.argmin(away)) == k and min(away) < 12


@pytest.mark.parametrize(("container", "codec"), [("wav", "adpcm_yamaha"), ("wsaud", "adpcm_ima_ws")])
def test_samples_that_are_sums_of_all_before_them(tmp_path: Path, container: str, codec: str):
    path = tmp_path / f"a.{container}"
    source = beep_file(tmp_path / "a.wav.wav", "pcm_s16le", RATE)
    with av.open(str(source)) as given, av.open(str(path), "w", format=container) as made:
        stream = made.add_stream(codec, rate=RATE)
        stream.codec_context.layout = "mono"
        fit = av.AudioResampler("s16", "mono", RATE, frame_size=stream.codec_context.frame_size or 1024)
        for frame in given.decode(audio=0):
            for part in fit.resample(frame):
                made.mux(stream.encode(part))
        made.mux(stream.encode(None))
    whole = read_clip(path, video=False, audio_rate=None).waveform
    for start in (2.5, 5.0):
        part = read_clip(path, video=False, audio_rate=None, start=start, end=start + 1).waveform
        first = round(start * RATE)
        assert len(part) == pytest.approx(RATE, abs=1)
        assert float((part - whole[first : first + len(part)]).abs().max()) < 1e-4


@pytest.mark.parametrize(("suffix", "codec"), [("ogg", "flac"), ("aac", "aac")])
def test_a_joined_sound_of_another_rate_keeps_all_its_samples(tmp_path: Path, suffix: str, codec: str):
    """The stamps of the later parts count in the first one's rate."""
    rates = (48000, 44100, 32000, 48000)
    parts = [beep_file(tmp_path / f"{k}.{suffix}", codec, rate, seconds=4.0) for k, rate in enumerate(rates)]
    (tmp_path / f"all.{suffix}").write_bytes(b"".join(part.read_bytes() for part in parts))
    alone = [read_clip(part, video=False, audio_rate=48000).waveform.numpy() for part in parts]
    clip = read_clip(tmp_path / f"all.{suffix}", video=False, audio_rate=48000)
    heard = clip.waveform.numpy()
    assert "format_change" in clip.issues and not set(clip.issues) & {"gap", "overlap", "pts_fixed"}
    assert len(heard) == pytest.approx(sum(map(len, alone)), abs=3000)
    windows = iter_windows(tmp_path / f"all.{suffix}", 1.7, video=False, audio_rate=48000)
    together = np.concatenate([window.waveform.numpy() for window in windows])
    assert len(together) == len(heard)
    if codec == "flac":
        begin = 0
        for part in alone:
            late = [heard_at(heard[begin : begin + len(part)], 48000, float(at)) for at in BEEPS[BEEPS < 3.8]]
            assert max(abs(delay) for delay in late if delay is not None) <= 1
            begin += len(part)
        assert np.abs(together - heard).max() < 0.05  # between two samples at the seams
