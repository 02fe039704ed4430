"""Augmentation: the same for the same key, nothing at zero, never a clip without both modalities."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from mmattn.data.augment import Augment, keyed_generator, without_audio, without_video
from mmattn.data.transforms import FLOOR, Sample

EVERYTHING = Augment(modality_dropout=0.3, gain_db=6, shift_px=2, masks=2, time_mask_s=0.1, mel_mask=3)


def _sample() -> Sample:
    generator = torch.Generator().manual_seed(5)
    return Sample(
        frames=torch.randint(0, 256, (4, 3, 8, 8), generator=generator, dtype=torch.uint8),
        frame_keep=torch.tensor([True, True, True, False]),
        frame_times=torch.arange(4) / 8,
        spectrogram=torch.randn(50, 12, generator=generator),
        spectrogram_keep=torch.arange(50) < 40,
        spectrogram_times=torch.arange(50) / 100,
    )


def _same(one: Sample, other: Sample) -> bool:
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Sample))


def test_zero_settings_change_nothing() -> None:
    assert _same(Augment()(_sample(), keyed_generator(0, 0, 0)), _sample())


def test_it_depends_on_seed_epoch_and_index_alone() -> None:
    first = EVERYTHING(_sample(), keyed_generator(1, 2, 3))
    torch.rand(7)  # the global generator has no say
    assert _same(EVERYTHING(_sample(), keyed_generator(1, 2, 3)), first)
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (12, 3, 0)):
        assert not _same(EVERYTHING(_sample(), keyed_generator(*key)), first)
    draws = {float(torch.rand((), generator=keyed_generator(1, 2, index))) for index in range(1000)}
    assert len(draws) > 990


def test_the_sample_that_was_given_stays_as_it_was() -> None:
    """It is the cached one, which the next epoch reads again."""
    sample = _sample()
    for index in range(10):
        EVERYTHING(sample, keyed_generator(0, 0, index))
    assert _same(sample, _sample())


def test_modality_dropout_takes_each_as_often_as_told_and_never_both() -> None:
    augment, lost = Augment(modality_dropout=0.2), {"video": 0, "audio": 0}
    for index in range(1000):
        sample = augment(_sample(), keyed_generator(0, 0, index))
        gone = {"video": not sample.frame_keep.any(), "audio": not sample.spectrogram_keep.any()}
        assert not all(gone.values())
        for name in lost:
            lost[name] += gone[name]
    assert all(150 < count < 250 for count in lost.values())


@pytest.mark.parametrize("take", [without_audio, without_video])
def test_the_only_modality_of_a_clip_is_never_taken(take) -> None:
    augment = Augment(modality_dropout=0.5)
    for index in range(50):
        sample = augment(take(_sample()), keyed_generator(0, 0, index))
        assert sample.frame_keep.any() or sample.spectrogram_keep.any()


@pytest.mark.parametrize("chance", [-0.1, 0.6])
def test_a_chance_that_two_cannot_share_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match=r"0 to 0\.5"):
        Augment(modality_dropout=chance)


def test_gain_shifts_all_bands_alike_and_within_its_bounds_and_leaves_silence_silent() -> None:
    shifts = []
    sample = replace(_sample(), spectrogram=_sample().spectrogram.clamp(min=-1.5))  # 10 dB above the floor
    sample.spectrogram[7] = FLOOR
    for index in range(50):
        louder = Augment(gain_db=6)(sample, keyed_generator(0, 0, index)).spectrogram
        assert (louder[7] == FLOOR).all()
        change = torch.cat([louder[:7], louder[8:]]) - torch.cat([sample.spectrogram[:7], sample.spectrogram[8:]])
        torch.testing.assert_close(change, change[:1, :1].expand_as(change), rtol=0, atol=1e-6)
        shifts.append(float(change[0, 0]) * 20)
    assert -6 <= min(shifts) < -3
    assert 3 < max(shifts) <= 6


def test_a_shift_moves_all_frames_alike() -> None:
    sample = _sample()
    moved = set()
    for index in range(30):
        shifted = Augment(shift_px=2)(sample, keyed_generator(0, 0, index)).frames
        assert shifted.shape == sample.frames.shape
        assert shifted.dtype == torch.uint8
        offsets = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(shifted[..., 2:-2, 2:-2], sample.frames[..., 2 + dy : 6 + dy, 2 + dx : 6 + dx])
        ]
        assert len(offsets) == 1
        moved.add(offsets[0])
    assert len(moved) > 10


def test_masks_cover_stretches_no_longer_than_told() -> None:
    augment = Augment(masks=1, time_mask_s=0.1, mel_mask=3)
    rows, bands = set(), set()
    for index in range(60):
        changed = augment(_sample(), keyed_generator(0, 0, index)).spectrogram != _sample().spectrogram
        rows.add(int(changed.all(dim=1).sum()))
        bands.add(int(changed.all(dim=0).sum()))
    assert max(rows) <= 10
    assert max(rows) >= 7
    assert bands == {0, 1, 2, 3}
