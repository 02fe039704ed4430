"""How many channels become one: ITU-R BS.775 against its table and against FFmpeg, and the plain mean."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import muxed

from mmattn.data.prepare.clips import ClipSpec
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.audio.downmix import DOWNMIXES
from mmattn.media.read.decode import read_clip
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import iter_windows
from mmattn.media.survey.passes import survey

HALF = 0.5**0.5
TABLES = {  # by channel, before they are divided by their sum
    "mono": [1],
    "stereo": [1, 1],
    "3.0": [HALF, HALF, 1],
    "quad": [HALF, HALF, 0.5, 0.5],
    "5.0(side)": [HALF, HALF, 1, 0.5, 0.5],
    "5.1": [HALF, HALF, 1, 0, 0.5, 0.5],
    "5.1(side)": [HALF, HALF, 1, 0, 0.5, 0.5],
    "7.1": [HALF, HALF, 1, 0, 0.5, 0.5, 0.5, 0.5],
}


def signal(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).uniform(-1, 1, (channels, 1600)).astype(np.float32)


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [(layout, "wav") for layout in TABLES] + [(layout, "mkv") for layout in ("mono", "stereo", "5.1", "7.1")],
)  # Matroska names no channels: their usual order is meant
def test_channels_are_weighted_as_the_itu_says(tmp_path: Path, layout: str, suffix: str):
    given, table = signal(len(TABLES[layout])), np.array(TABLES[layout])
    path = muxed(tmp_path / f"a.{suffix}", sounds=[(0.0, given)], layout=layout)
    heard = read_clip(path, video=False).waveform.numpy()
    np.testing.assert_allclose(heard, table @ given / table.sum(), atol=1e-6)


@pytest.mark.parametrize("layout", ["5.1", "5.1(side)", "5.0", "quad"])
def test_it_is_the_mean_of_ffmpegs_stereo(tmp_path: Path, layout: str):
    given = signal(len(av.AudioLayout(layout).channels))
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, given)], layout=layout)
    with av.open(str(path)) as container:
        to_stereo = av.AudioResampler(format="fltp", layout="stereo")
        frames = [made for frame in container.decode(audio=0) for made in to_stereo.resample(frame)]
    stereo = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    heard = read_clip(path, video=False).waveform.numpy()
    gain = float(heard @ stereo.mean(axis=0)) / float(np.square(stereo.mean(axis=0)).sum())
    np.testing.assert_allclose(heard, stereo.mean(axis=0) * gain, atol=1e-5)  # FFmpeg does not divide by the sum


@pytest.mark.parametrize(("downmix", "level_db"), [("bs775", -10.66), ("mean", -15.56)])
def test_dialogue_in_the_centre_keeps_a_level(tmp_path: Path, downmix, level_db: float):
    given = np.zeros((6, 16000), np.float32)
    given[2] = np.sin(np.arange(16000) / 5)
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, given)], layout="5.1")
    heard = read_clip(path, video=False, downmix=downmix).waveform.numpy()
    assert 20 * np.log10(np.abs(heard).max()) == pytest.approx(level_db, abs=0.05)


@pytest.mark.parametrize("layout", TABLES)
@pytest.mark.parametrize("downmix", DOWNMIXES)
def test_full_scale_in_all_channels_does_not_clip(tmp_path: Path, layout: str, downmix):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, np.ones((len(TABLES[layout]), 1600), np.float32))], layout=layout)
    heard = read_clip(path, video=False, downmix=downmix).waveform.numpy()
    assert heard.max() <= 1 and heard[800] == pytest.approx(1)


def test_whole_numbers_are_mixed_as_floats_are(tmp_path: Path):
    given = (signal(6) * 32767).astype(np.int16)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        stream.codec_context.layout = "5.1"
        packed = np.ascontiguousarray(given.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="5.1")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    table = np.array(TABLES["5.1"])
    heard = read_clip(tmp_path / "a.wav", video=False).waveform.numpy()
    np.testing.assert_allclose(heard, table @ (given / 32768) / table.sum(), atol=1e-6)


@pytest.mark.parametrize("downmix", DOWNMIXES)
def test_windows_the_isolated_reader_and_clips_mix_alike(tmp_path: Path, downmix):
    path = muxed(tmp_path / "a.wav", sounds=[(0.0, signal(6))], layout="5.1")
    direct = read_clip(path, video=False, downmix=downmix).waveform
    (window,) = iter_windows(path, 1.0, video=False, downmix=downmix)
    spec = ClipSpec(seconds=1.0, video=False, downmix=downmix)
    with IsolatedReader() as reader:
        apart = reader.read(path, Request(video=False, downmix=downmix)).waveform
    assert direct is not None and window.waveform is not None and apart is not None
    assert (window.waveform == direct).all() and (apart == direct).all()
    assert (spec.pad(spec.read(path)).waveform[: len(direct)] == direct).all()


def test_a_saved_clip_that_does_not_say_means_the_plain_mean():
    saved = ClipSpec(seconds=1.0).to_dict()
    del saved["downmix"]
    assert ClipSpec(**saved).downmix == "mean"
    assert replace(ClipSpec(), downmix="bs775").to_dict()["downmix"] == "bs775"


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="bs775, mean"):
        Request(video=False, downmix="loud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data\.clip\.downmix"):
        ClipSpec(downmix="loud")  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_samples_that_are_no_numbers_are_silence_and_are_told(tmp_path: Path, layout):
    """As a damaged file of floating-point samples has them."""
    path, channels = tmp_path / "a.wav", len(av.AudioLayout(layout).channels)
    given = np.full((16000, channels), 0.25, np.float32)
    given[8000:8100] = np.resize(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38], np.float32), (100, channels))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000)
        stream.codec_context.layout = layout
        frame = av.AudioFrame.from_ndarray(given.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for downmix in DOWNMIXES:
        clip = read_clip(path, video=False, downmix=downmix)
        assert "bad_samples" in clip.issues
        assert np.allclose(clip.waveform[:7900], 0.25, atol=1e-4) and np.allclose(clip.waveform[8200:], 0.25, atol=1e-4)
        assert float(clip.waveform.abs().max()) <= 1.0
    assert survey(path, "full").reason is None
