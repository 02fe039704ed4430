"""A clip becomes arrays: pictures and sound at their times, silence at the floor, what is missing masked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmattn.data.prepare.clips import FITS, FRONT_ENDS, ClipSpec
from mmattn.data.prepare.mel import KaldiFbank
from mmattn.errors import UsageError
from mmattn.media.read.request import Request
from mmattn.types import Clip

SPEC = ClipSpec(seconds=1.0, fps=8.0, height=4, width=6, mels=64)
SPECS = {name: replace(SPEC, spectrogram=name) for name in FRONT_ENDS}
RATE = SPEC.sample_rate
FLOOR = -2.0


def _clip(frames: int | None = 8, waveform: Tensor | None = None, start: float = 0.0, audio_start: float = 0.0) -> Clip:
    times = torch.tensor(SPEC.times(start, start + SPEC.seconds), dtype=torch.float64)[: frames or 0]
    pictures = torch.arange(frames or 0, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 6)
    return Clip(
        frames=None if frames is None else pictures,
        frame_times=times,
        waveform=waveform,
        sample_rate=RATE,
        audio_start=audio_start,
        source="test",
        span=(start, start + SPEC.seconds),
    )


def _sine(hertz: float, seconds: float = 1.0) -> Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


def _decibel(spectrogram: Tensor) -> Tensor:
    return spectrogram * 20 - 40


def _mel(hertz: float) -> float:
    return 2595 * torch.log10(torch.tensor(1 + hertz / 700)).item()


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_silence_is_the_floor_and_below_everything_else(name: str) -> None:
    front_end = SPECS[name].front_end
    rows = front_end(torch.zeros(RATE))
    assert rows.shape == (front_end.rows(RATE), 64) == (front_end.times(len(rows)).shape[0], 64)
    assert (rows == front_end.floor).all()
    assert front_end.floor < -1, "never a positive constant"
    assert (front_end(0.1 * torch.randn(RATE)) > front_end.floor).all()


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("samples", [1, 399, 400, 401, 559, 560, 16000, 16079, 16081, 44100])
def test_a_front_end_makes_the_rows_that_it_promises(name: str, samples: int) -> None:
    front_end = SPECS[name].front_end
    assert front_end(torch.randn(samples)).shape == (front_end.rows(samples), 64)


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("db", [-12.0, 6.0])
def test_louder_in_the_spectrogram_is_louder_in_the_waveform(name: str, db: float) -> None:
    front_end = SPECS[name].front_end
    noise = 0.05 * torch.randn(RATE)
    expected = front_end(noise * 10 ** (db / 20))
    torch.testing.assert_close(front_end.louder(front_end(noise), db), expected, rtol=0, atol=1e-4)
    silence = front_end(torch.zeros(RATE))
    assert torch.equal(front_end.louder(silence, db), silence)


@pytest.mark.parametrize("mels", [128, 256])
def test_narrow_bands_hear_as_well(mels: int) -> None:
    """More bands than a Fourier transform of the window's size has bins for, at the low end."""
    front_end = replace(SPEC, mels=mels).front_end
    assert (front_end(0.1 * torch.randn(RATE)) > FLOOR).all()
    assert -5 < _decibel(front_end(_sine(1000))[5:-5]).max() < 3


def test_more_bands_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.clip\.mels=5000"):
        replace(SPEC, mels=5000).front_end(torch.zeros(RATE))


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_kaldi_is_what_ast_was_trained_on(rate: int) -> None:
    """The call of AST's own recipe, less its mean over the clip, which each frame's own mean makes superfluous."""
    from torchaudio.compliance.kaldi import fbank

    spec = ClipSpec(seconds=1.0, sample_rate=rate, mels=128, spectrogram="kaldi")
    waveform = 0.1 * torch.randn(rate) + 0.02
    theirs = fbank(
        (waveform - waveform.mean())[None],
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    ours = spec.front_end(waveform)
    assert len(ours) == len(theirs)
    torch.testing.assert_close(ours, (theirs + 4.2677393) / (4.5689974 * 2), rtol=0, atol=2e-4)
    assert KaldiFbank.floor == pytest.approx(-1.27759, abs=1e-5)


@pytest.mark.parametrize("time", [0.1, 0.437, 0.9])
def test_kaldis_rows_have_the_times_of_their_windows_middle(time: float) -> None:
    waveform = torch.zeros(RATE)
    waveform[round(time * RATE)] = 1.0
    sample = SPECS["kaldi"].prepare(_clip(waveform=waveform))
    heard = (sample.spectrogram > KaldiFbank.floor).any(dim=1)
    assert float(sample.spectrogram_times[heard].mean()) == pytest.approx(time, abs=0.006)


@pytest.mark.parametrize("hertz", [300, 1000, 4000])
def test_a_full_scale_sine_peaks_in_its_band_near_0_db(hertz: float) -> None:
    rows = _decibel(SPEC.front_end(_sine(hertz)))[5:-5].mean(dim=0)
    band = (_mel(hertz) - _mel(30)) / (_mel(RATE / 2) - _mel(30)) * 65 - 1  # 64 triangles' centres between 66 edges
    assert rows.argmax().item() == pytest.approx(band, abs=1)
    assert rows.max().item() == pytest.approx(0, abs=3)
    far = torch.arange(64).sub(band).abs() > 12
    assert rows[far].max() < -40


def test_half_the_amplitude_is_6_db_less() -> None:
    loud, soft = (SPEC.front_end(gain * _sine(1000))[5:-5, :].amax(dim=1) for gain in (0.8, 0.4))
    torch.testing.assert_close(_decibel(loud) - _decibel(soft), torch.full((90,), 6.0206), rtol=0, atol=1e-2)


@pytest.mark.parametrize("time", [0.0, 0.1, 0.437, 0.98])
def test_a_click_is_in_the_row_of_its_time(time: float) -> None:
    waveform = torch.zeros(RATE)
    waveform[round(time * RATE)] = 1.0
    sample = SPEC.prepare(_clip(waveform=waveform))
    row = sample.spectrogram.mean(dim=1).argmax()
    assert float(sample.spectrogram_times[row]) == pytest.approx(time, abs=SPEC.hop_s / 2 + 1e-6)


def test_late_sound_is_placed_at_its_time() -> None:
    """A click at the start of a sound track that itself starts 0.3 s in; what was before is silence, and real."""
    waveform = torch.zeros(RATE // 2)
    waveform[0] = 1.0
    sample = SPEC.prepare(_clip(waveform=waveform, audio_start=0.3))
    assert int(sample.spectrogram.mean(dim=1).argmax()) == 30
    assert (sample.spectrogram[:20] == FLOOR).all()
    assert sample.spectrogram_keep.tolist() == [True] * 80 + [False] * 20


@pytest.mark.parametrize("audio_start", [-0.4, 0.0, 0.2001, 0.9])
def test_a_padded_clip_has_its_sound_at_its_time_to_the_sample(audio_start: float) -> None:
    waveform = torch.randn(RATE)
    clip = SPEC.pad(_clip(waveform=waveform, audio_start=audio_start))
    offset = round(audio_start * RATE)
    first, last = max(0, offset), min(RATE, RATE + offset)
    assert clip.waveform.shape == (RATE,)
    assert clip.heard == last
    assert torch.equal(clip.waveform[first:last], waveform[first - offset : last - offset])
    assert not clip.waveform[:first].any()
    assert not clip.waveform[last:].any()


def test_a_span_within_a_file_counts_from_its_own_start() -> None:
    waveform = torch.zeros(RATE)
    waveform[RATE // 4] = 1.0
    sample = SPEC.prepare(_clip(waveform=waveform, start=7.0, audio_start=7.0))
    assert int(sample.spectrogram.mean(dim=1).argmax()) == 25
    torch.testing.assert_close(sample.frame_times, (torch.arange(8) + 0.5) / 8)
    assert sample.spectrogram_keep.all()


def test_sound_that_starts_after_the_span_is_not_in_it() -> None:
    sample = SPEC.prepare(_clip(waveform=_sine(500), audio_start=1.0))
    assert not sample.spectrogram_keep.any()
    assert (sample.spectrogram == FLOOR).all()


@pytest.mark.parametrize(("frames", "seconds"), [(3, 0.4), (1, 0.01), (8, 1.0), (8, 1.7)])
def test_a_short_clip_is_padded_and_masked_a_long_one_is_cut(frames: int, seconds: float) -> None:
    sample = SPEC.prepare(_clip(frames, _sine(500, seconds)))
    assert sample.frames.shape == (8, 3, 4, 6)
    assert sample.frame_keep.tolist() == [k < frames for k in range(8)]
    assert sample.frames[:frames, 0, 0, 0].tolist() == list(range(frames))
    assert not sample.frames[frames:].any()
    rows = min(100, round(seconds * 100))
    assert sample.spectrogram.shape == (100, 64)
    assert sample.spectrogram_keep.tolist() == [row < rows for row in range(100)]
    assert (sample.spectrogram[rows:] == FLOOR).all()
    assert (sample.frame_times.diff() > 0).all()


@pytest.mark.parametrize(
    "waveform", [None, torch.zeros(RATE), torch.zeros(0)], ids=["none", "digital silence", "empty"]
)
def test_no_sound_is_a_missing_modality(waveform: Tensor | None) -> None:
    sample = SPEC.prepare(_clip(waveform=waveform))
    assert not sample.spectrogram_keep.any()
    assert (sample.spectrogram == FLOOR).all()
    assert sample.frame_keep.all()


def test_no_picture_is_a_missing_modality() -> None:
    sample = SPEC.prepare(_clip(None, _sine(500)))
    assert not sample.frame_keep.any()
    assert sample.spectrogram_keep.all()
    assert sample.frame_times.isfinite().all()


def test_very_soft_sound_is_still_sound() -> None:
    sample = SPEC.prepare(_clip(waveform=1e-3 * _sine(1000)))
    assert sample.spectrogram_keep.all()
    assert _decibel(sample.spectrogram.max()).item() == pytest.approx(-60, abs=3)


def test_the_grid_is_the_middle_of_each_frames_interval() -> None:
    assert SPEC.times(2.0, 3.0) == pytest.approx([2.0625 + k / 8 for k in range(8)])
    assert SPEC.times(2.0, 2.3) == pytest.approx([2.0625, 2.1875])
    assert SPEC.times(2.0, 2.01) == [2.0], "even the shortest span shows one frame"


def test_a_spec_goes_round_through_its_record() -> None:
    assert ClipSpec(**SPEC.to_dict()) == SPEC


@pytest.mark.parametrize("fit", FITS)
def test_a_reader_is_asked_for_what_the_spec_says(fit: str) -> None:
    asked: list[Request] = []

    def reader(media: object, request: Request) -> Clip:
        asked.append(request)
        return _clip(waveform=_sine(500))

    replace(SPEC, fit=fit).read(Path("a.mp4"), 2.0, 2.5, reader=reader)
    (request,) = asked
    assert (request.fit, request.size, request.audio_rate) == (fit, (4, 6), RATE)
    assert (request.start, request.end, request.times) == (2.0, 2.5, SPEC.times(2.0, 2.5))


@pytest.mark.parametrize("field", ["fit", "spectrogram"])
def test_a_spec_of_an_unknown_kind_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"data.clip.{field} must be one of "):
        replace(SPEC, **{field: "nearly"})


@pytest.mark.parametrize("field", ["seconds", "fps", "height", "mels", "sample_rate"])
def test_a_spec_of_nothing_is_refused(field: str) -> None:
    with pytest.raises((ValueError, UsageError), match=f"data.clip.{field} must be above 0"):
        replace(SPEC, **{field: 0})
