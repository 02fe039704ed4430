"""What training varies in the sound: exact ratios, whose voices babble, what is shifted and masked."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from augment_clips import FLOOR, SPEC, SPLIT, Split, make_clip, soundless

from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.noise import ROLL, VOICES, add_noise, make_noise
from mmattn.data.prepare.augment.noise_kinds import KINDS
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import PaddedClip, Sample
from mmattn.data.prepare.keys import Key


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_ratio_that_was_asked_for(kind: str, snr_db: float) -> None:
    clip, key = make_clip(0), Key(0, 0, 0)
    noise = make_noise(kind, 4000, key.stream("noise"), key, SPLIT)
    noisy = add_noise(clip, noise, snr_db)
    heard, added = clip.waveform[:3600].double(), (noisy - clip.waveform)[:3600].double()
    measured = 10 * torch.log10(heard.square().mean() / added.square().mean())
    assert float(measured) == pytest.approx(snr_db, abs=0.01)
    assert torch.equal(noisy[3600:], clip.waveform[3600:])


def test_an_augmentations_ratios_are_spread_over_their_range() -> None:
    ratios = []
    for epoch in range(300):
        clip = make_clip(0)
        noisy = SoundAugment(noise=0.5, noise_kind="white", snr_db=(-5, 15)).on_waveform(
            clip, Key(0, epoch, 0), 8000, SPLIT
        )
        added = float((noisy.waveform - clip.waveform).square().sum())
        if added:
            ratios.append(10 * torch.log10(clip.waveform.square().sum() / added).item())
    assert 110 < len(ratios) < 190, "as often as told"
    assert -5.01 < min(ratios) < -4
    assert 14 < max(ratios) < 15.01


@pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", -3.01)])
def test_the_colour_of_noise(kind: str, slope: float) -> None:
    """Power density by octave, in dB an octave."""
    noise = make_noise(kind, 1 << 16, random.Random(1), Key(0, 0, 0), SPLIT)
    power = torch.fft.rfft(noise).abs().square()
    octaves = torch.tensor([10 * torch.log10(power[1 << k : 2 << k].mean()).item() for k in range(7, 15)])
    places = torch.arange(8) - 3.5
    assert float((octaves * places).sum() / places.square().sum()) == pytest.approx(slope, abs=0.15)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)


def _click(index: int) -> PaddedClip:
    """A click at the start, as high as 2 ** index."""
    waveform = torch.zeros(4000)
    waveform[0] = 2.0**index
    return replace(make_clip(index), waveform=waveform, heard=4000)


def test_babble_is_four_other_clips_each_at_a_time_of_its_own() -> None:
    split = Split([_click(index) for index in range(9)])
    rolls, heard = [], defaultdict(int)
    for epoch in range(200):
        key = Key(0, epoch, 3)
        babble = make_noise("babble", 4000, key.stream("noise"), key, split)
        clicks = {int(babble[at].log2()): int(at) for at in babble.nonzero()[:, 0]}
        if any(float(babble[at]) != 2.0**index for index, at in clicks.items()):
            continue  # two clicks at one place
        assert len(clicks) == VOICES
        assert 3 not in clicks
        rolls += list(clicks.values())
        for index in clicks:
            heard[index] += 1
    assert 4000 * ROLL[0] <= min(rolls) < 4000 * ROLL[0] + 50
    assert 4000 * ROLL[1] - 50 < max(rolls) <= 4000 * ROLL[1]
    assert len(heard) == 8
    assert all(60 < count < 140 for count in heard.values()), "each as likely"


def test_babble_passes_over_the_unreadable_and_the_soundless() -> None:
    clips = [_click(0), None, soundless(make_clip(2)), _click(3), _click(4)]
    key = Key(0, 0, 0)
    babble = make_noise("babble", 4000, key.stream("noise"), key, Split(clips))
    assert sorted(int(value.log2()) for value in babble[babble > 0]) == [3, 4]
    nobody = make_noise("babble", 4000, key.stream("noise"), key, Split([_click(0), None]))
    assert not nobody.any()
    assert torch.equal(add_noise(make_clip(0), nobody, 0.0), make_clip(0).waveform)


def test_a_shorter_voice_goes_on() -> None:
    clips = [make_clip(0), replace(_click(1), heard=1000, waveform=torch.cat([torch.ones(1000), torch.zeros(3000)]))]
    key = Key(0, 0, 0)
    assert (make_noise("babble", 4000, key.stream("noise"), key, Split(clips)) == 1).all()


def test_a_time_shift_moves_sound_within_the_time_it_is_heard() -> None:
    found = []
    for epoch in range(50):
        clip = make_clip(0)
        moved = SoundAugment(time_shift_s=0.1).on_waveform(clip, Key(0, epoch, 0), 8000, SPLIT)
        assert moved.heard == clip.heard
        (by,) = [
            by
            for by in range(-800, 801)
            if torch.equal(
                moved.waveform[max(0, by) : 3600 + min(0, by)], clip.waveform[max(0, -by) : 3600 - max(0, by)]
            )
        ]
        assert not moved.waveform[: max(0, by)].any()
        assert not moved.waveform[3600 + min(0, by) :].any()
        found.append(by)
    assert min(found) < -650
    assert max(found) > 650


def test_a_shift_beyond_the_clip_leaves_silence() -> None:
    moved = [
        SoundAugment(time_shift_s=5).on_waveform(make_clip(0), Key(0, epoch, 0), 8000, SPLIT).waveform
        for epoch in range(20)
    ]
    assert all(waveform.shape == (4000,) for waveform in moved)
    assert any(not waveform.any() for waveform in moved)


def _sample() -> Sample:
    return replace(
        SPEC.finish(make_clip(0)),
        spectrogram=torch.randn(50, 12, generator=torch.Generator().manual_seed(1)).clamp(min=-1.5),
        spectrogram_keep=torch.arange(50) < 40,
    )


def test_gain_shifts_all_bands_alike_and_within_its_bounds_and_leaves_silence_silent() -> None:
    shifts, sample = [], _sample()
    sample.spectrogram[7] = FLOOR
    for epoch in range(50):
        louder = SoundAugment(gain_db=6).on_spectrogram(sample, Key(0, epoch, 0), SPEC.front_end)
        assert (louder[7] == FLOOR).all()
        change = torch.cat([louder[:7], louder[8:]]) - torch.cat([sample.spectrogram[:7], sample.spectrogram[8:]])
        torch.testing.assert_close(change, change[:1, :1].expand_as(change), rtol=0, atol=1e-6)
        shifts.append(float(change[0, 0]) * 20)
    assert -6 <= min(shifts) < -5
    assert 5 < max(shifts) <= 6


def test_masks_cover_stretches_no_longer_than_told_and_only_what_is_heard() -> None:
    sample, rows, bands = _sample(), set(), set()
    for epoch in range(200):
        masked = SoundAugment(masks=1, time_mask_s=0.1, mel_mask=3).on_spectrogram(
            sample, Key(0, epoch, 0), SPEC.front_end
        )
        changed = masked != sample.spectrogram
        assert not changed[40:].any()
        rows.add(int(changed[:40].all(dim=1).sum()))
        bands.add(int(changed[:40].all(dim=0).sum()))
        assert torch.allclose(masked[changed], sample.spectrogram[:40].mean())
    assert max(rows) in (9, 10)
    assert bands == {0, 1, 2, 3}


def test_a_waveform_that_is_kept_is_as_loud_as_its_spectrogram() -> None:
    """For encoders that bring their own front end."""
    spec = replace(SPEC, waveform=True)
    augment = Augment(sound=SoundAugment(noise=1.0, gain_db=6.0))
    for epoch in range(5):
        sample, _ = augment(make_clip(0), SPLIT.target(0), Key(0, epoch, 0), spec, SPLIT)
        again = spec.finish(replace(make_clip(0), waveform=sample.waveform)).spectrogram
        torch.testing.assert_close(again, sample.spectrogram, rtol=0, atol=1e-4)


def test_noise_comes_down_from_the_easiest_over_the_easy_epochs() -> None:
    augment = SoundAugment(noise=1.0, snr_db=(-10, 20), easy_epochs=6)
    assert [augment.snr_range(epoch) for epoch in (0, 2, 3, 6, 60)] == [
        (20, 20),
        (10, 20),
        (5, 20),
        (-10, 20),
        (-10, 20),
    ]
    assert SoundAugment(noise=1.0, snr_db=(-10, 20)).snr_range(0) == (-10, 20)
