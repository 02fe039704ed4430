"""Augmentation: what each may change, and that it is the same for the same key, whatever else is turned on."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from mmattn.data.augment import Augment, without_audio, without_video
from mmattn.data.keys import Key
from mmattn.data.mel import LogMel
from mmattn.data.mix import mix_clips
from mmattn.data.noise import KINDS, ROLL, VOICES, add_noise, make_noise
from mmattn.data.picture_augment import PictureAugment
from mmattn.data.sound_augment import SoundAugment
from mmattn.data.transforms import ClipSpec, PaddedClip, Sample

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=12, width=16, sample_rate=8000, mels=12)
FLOOR = LogMel.floor
TAGS = 5
PICTURES = {
    "crop": PictureAugment(crop=0.6, crop_aspect=0.3),
    "flip": PictureAugment(flip=0.5),
    "shift": PictureAugment(shift_px=2),
    "brightness": PictureAugment(brightness=0.5),
    "contrast": PictureAugment(contrast=0.5),
    "saturation": PictureAugment(saturation=0.5),
    "hue": PictureAugment(hue=0.3),
    "grey": PictureAugment(grey=0.5),
    "erase": PictureAugment(erase=0.7),
}
SOUNDS = {
    "time_shift": SoundAugment(time_shift_s=0.1),
    "noise white": SoundAugment(noise=0.8, noise_kind="white"),
    "noise pink": SoundAugment(noise=0.8, noise_kind="pink"),
    "noise": SoundAugment(noise=0.8),
    "gain": SoundAugment(gain_db=6),
    "masks": SoundAugment(masks=2, time_mask_s=0.1, mel_mask=3),
}
AUGMENTS = (
    {name: Augment(picture=picture) for name, picture in PICTURES.items()}
    | {name: Augment(sound=sound) for name, sound in SOUNDS.items()}
    | {"mixup": Augment(mixup=0.8), "modality_dropout": Augment(modality_dropout=0.3)}
)
EVERYTHING = Augment(
    modality_dropout=0.3,
    mixup=0.8,
    picture=PictureAugment(0.6, 0.3, 0.5, 2, 0.5, 0.5, 0.5, 0.3, 0.5, 0.7),
    sound=SoundAugment(0.1, 0.8, "babble", (-10, 20), 6, 2, 0.1, 3),
)


def _clip(index: int, seed: int = 5) -> PaddedClip:
    """Half a second of noise and random pictures; the last frame and the last tenth of the sound are padding."""
    generator = torch.Generator().manual_seed(seed + index)
    frames = torch.randint(1, 256, (4, 3, 12, 16), generator=generator, dtype=torch.uint8)
    frames[3] = 0
    waveform = 0.1 * torch.randn(4000, generator=generator)
    waveform[3600:] = 0
    return PaddedClip(frames, torch.arange(4) < 3, (torch.arange(4) + 0.5) / 8, waveform, 3600)


def _soundless(clip: PaddedClip) -> PaddedClip:
    return replace(clip, waveform=torch.zeros_like(clip.waveform), heard=0)


def _pictureless(clip: PaddedClip) -> PaddedClip:
    return replace(clip, frames=torch.zeros_like(clip.frames), frame_keep=torch.zeros(4, dtype=torch.bool))


@dataclass
class _Clips:
    """A split of clips; None cannot be read."""

    clips: list[PaddedClip | None]

    def __len__(self) -> int:
        return len(self.clips)

    def other(self, epoch: int, index: int) -> PaddedClip | None:
        return self.clips[index]

    def target(self, index: int) -> Tensor:
        return torch.eye(TAGS)[index % TAGS]


SPLIT = _Clips([_clip(index) for index in range(9)])


def _apply(augment: Augment, key: Key, clip: PaddedClip | None = None, split: _Clips = SPLIT) -> tuple[Sample, Tensor]:
    return augment(clip or _clip(key.index), split.target(key.index), key, SPEC, split)


def _same(one: object, other: object) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_tensors(one), _tensors(other), strict=True))


def _tensors(record: object) -> list[Tensor]:
    return [torch.as_tensor(getattr(record, field.name)) for field in fields(record)]  # type: ignore[arg-type]


# What holds for every augmentation


@pytest.mark.parametrize("name", AUGMENTS)
def test_shapes_types_ranges_and_masks_are_kept(name: str) -> None:
    plain = SPEC.finish(_clip(0))
    for epoch in range(20):
        sample, target = _apply(AUGMENTS[name], Key(0, epoch, 0))
        for one, other in zip(_tensors(plain), _tensors(sample), strict=True):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
        assert sample.spectrogram.isfinite().all()
        assert sample.spectrogram.min() >= FLOOR
        assert not sample.frames[3].any(), "padding stays black"
        assert (sample.spectrogram[45:] == FLOOR).all(), "padding stays silent"
        if name != "modality_dropout":
            assert torch.equal(sample.frame_keep, plain.frame_keep)
            assert torch.equal(sample.spectrogram_keep, plain.spectrogram_keep)
        assert torch.equal(sample.frame_times, plain.frame_times)
        assert float(target.sum()) == pytest.approx(1)
        assert ((target >= 0) & (target <= 1)).all()


@pytest.mark.parametrize("name", AUGMENTS)
def test_each_does_something_and_what_it_was_given_stays_as_it_was(name: str) -> None:
    """What it was given is what the next epoch gets."""
    plain, clip = SPEC.finish(_clip(0)), _clip(0)
    changed = sum(not _same(_apply(AUGMENTS[name], Key(0, epoch, 0), clip)[0], plain) for epoch in range(20))
    assert changed >= 5
    assert _same(clip, _clip(0))


@pytest.mark.parametrize("name", [*AUGMENTS, "everything"])
def test_each_depends_on_its_key_alone(name: str) -> None:
    augment = EVERYTHING if name == "everything" else AUGMENTS[name]
    first = [_apply(augment, Key(1, epoch, 2))[0] for epoch in range(8)]
    torch.rand(7), random.random()  # no global generator has a say
    again = [_apply(augment, Key(1, epoch, 2))[0] for epoch in reversed(range(8))][::-1]
    assert all(map(_same, first, again))
    others = (
        [Key(2, e, 2) for e in range(8)],
        [Key(1, e + 8, 2) for e in range(8)],
        [Key(1, e, 2, 1) for e in range(8)],
    )
    for keys in others:
        assert not all(map(_same, first, (_apply(augment, key)[0] for key in keys)))


@dataclass(frozen=True)
class _Watched(Key):
    """A key that notes what is drawn from each of its streams."""

    def stream(self, name: str) -> random.Random:
        draws = DRAWN[name]

        class Stream(random.Random):
            def random(self) -> float:
                draws.append(super().random())
                return draws[-1]

            def getrandbits(self, k: int) -> int:
                draws.append(super().getrandbits(k))
                return draws[-1]

        stream = Stream()
        stream.setstate(super().stream(name).getstate())
        return stream


DRAWN: dict[str, list[float]] = defaultdict(list)


@pytest.mark.parametrize("name", [name for name in AUGMENTS if " " not in name])
def test_turning_the_others_on_changes_nothing_that_one_draws(name: str) -> None:
    alone, among = [], []
    for augment, drawn in ((AUGMENTS[name], alone), (EVERYTHING, among)):
        for epoch in range(5):
            DRAWN.clear()
            _apply(augment, _Watched(3, epoch, 1))
            drawn.append(dict(DRAWN))
    assert all(list(streams) == [name] for streams in alone), "one stream each, of its own name"
    assert [streams[name] for streams in among] == [streams[name] for streams in alone]


@pytest.mark.parametrize("take", [_soundless, _pictureless])
@pytest.mark.parametrize("name", AUGMENTS)
def test_a_missing_modality_stays_missing(name: str, take) -> None:
    plain = SPEC.finish(take(_clip(0)))
    for epoch in range(10):
        sample, _ = _apply(AUGMENTS[name], Key(0, epoch, 0), take(_clip(0)))
        assert sample.frame_keep.any() == plain.frame_keep.any()
        assert sample.spectrogram_keep.any() == plain.spectrogram_keep.any()
        if take is _soundless:
            assert (sample.spectrogram == FLOOR).all()
        else:
            assert not sample.frames.any()


@pytest.mark.parametrize("name", [*PICTURES, "mixup"])
def test_all_frames_of_a_clip_are_treated_alike(name: str) -> None:
    """A still stays a still."""

    def still(clip: PaddedClip) -> PaddedClip:
        frames = clip.frames[:1].repeat(4, 1, 1, 1)
        return replace(clip, frames=frames, frame_keep=torch.ones(4, dtype=torch.bool))

    split = _Clips([still(_clip(index)) for index in range(9)])
    for epoch in range(10):
        frames = _apply(AUGMENTS[name], Key(0, epoch, 0), split.clips[0], split)[0].frames
        assert torch.equal(frames, frames[:1].expand_as(frames))


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_leaves_the_picture_alone_and_the_reverse(name: str) -> None:
    plain = SPEC.finish(_clip(0))
    assert torch.equal(_apply(AUGMENTS[name], Key(0, 0, 0))[0].frames, plain.frames)
    for picture in PICTURES:
        assert torch.equal(_apply(AUGMENTS[picture], Key(0, 0, 0))[0].spectrogram, plain.spectrogram)


def test_zero_settings_change_nothing() -> None:
    plain = SPEC.finish(_clip(0))
    assert not Augment().needs_waveform
    for clip in (_clip(0), plain):
        sample, target = Augment()(clip, torch.ones(TAGS), Key(0, 0, 0), SPEC, SPLIT)
        assert _same(sample, plain)
        assert torch.equal(target, torch.ones(TAGS))


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_spectrogram_will_do_unless_the_waveform_is_changed(name: str) -> None:
    augment, key = AUGMENTS[name], Key(0, 1, 0)
    assert augment.needs_waveform == (name in ("time_shift", "mixup") or name.startswith("noise"))
    sample = SPEC.finish(_clip(0))
    if augment.needs_waveform:
        with pytest.raises(TypeError, match="PaddedClip"):
            augment(sample, SPLIT.target(0), key, SPEC, SPLIT)
    else:
        assert _same(augment(sample, SPLIT.target(0), key, SPEC, SPLIT)[0], _apply(augment, key)[0])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Augment, {"modality_dropout": 0.6}, r"0 to 0\.5"),
        (Augment, {"modality_dropout": -0.1}, r"0 to 0\.5"),
        (Augment, {"mixup": 1.1}, "0 to 1"),
        (Augment, {"mixup_alpha": 0.0}, "above 0"),
        (PictureAugment, {"crop": 1.0}, r"0 to 0\.99"),
        (PictureAugment, {"hue": 0.6}, r"0 to 0\.5"),
        (PictureAugment, {"flip": -1.0}, "0 to 1"),
        (SoundAugment, {"noise": 2.0}, "0 to 1"),
        (SoundAugment, {"time_shift_s": -1.0}, "0 or more"),
        (SoundAugment, {"noise_kind": "brown"}, "white, pink, babble"),
        (SoundAugment, {"snr_db": [5, 0]}, "lowest, highest"),
        (SoundAugment, {"snr_db": [0]}, "lowest, highest"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind: type, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


# Modality dropout


def test_modality_dropout_takes_each_as_often_as_told_and_never_both() -> None:
    augment, lost, sample = Augment(modality_dropout=0.2), {"video": 0, "audio": 0}, SPEC.finish(_clip(0))
    for epoch in range(1000):
        left, _ = augment(sample, torch.ones(TAGS), Key(0, epoch, 0), SPEC, SPLIT)
        gone = {"video": not left.frame_keep.any(), "audio": not left.spectrogram_keep.any()}
        assert not all(gone.values())
        for name in lost:
            lost[name] += gone[name]
    assert all(150 < count < 250 for count in lost.values())


@pytest.mark.parametrize("take", [without_audio, without_video])
def test_the_only_modality_of_a_clip_is_never_taken(take) -> None:
    augment, sample = Augment(modality_dropout=0.5), take(SPEC.finish(_clip(0)))
    for epoch in range(50):
        left, _ = augment(sample, torch.ones(TAGS), Key(0, epoch, 0), SPEC, SPLIT)
        assert left.frame_keep.any() or left.spectrogram_keep.any()


# Picture


def _coordinates() -> PaddedClip:
    """Red is ten times the column, green ten times the row, blue constant."""
    frames = torch.full((4, 3, 12, 16), 77, dtype=torch.uint8)
    frames[:, 0] = torch.arange(16, dtype=torch.uint8) * 10
    frames[:, 1] = torch.arange(12, dtype=torch.uint8)[:, None] * 10
    return replace(_clip(0), frames=frames, frame_keep=torch.ones(4, dtype=torch.bool))


def _varied(picture: PictureAugment, epoch: int) -> Tensor:
    clip = _coordinates()
    return picture(clip.frames, clip.frame_keep, Key(0, epoch, 0))[0].float()


def test_a_crop_keeps_at_least_the_area_and_shape_that_it_is_told() -> None:
    areas, shapes = [], []
    for epoch in range(200):
        red, green, blue = _varied(PictureAugment(crop=0.5, crop_aspect=1 / 3), epoch)
        assert (blue == 77).all()
        wide, high = (float(part.max() - part.min()) / 10 + 1 for part in (red, green))
        areas.append(wide * high / (16 * 12))
        shapes.append(wide / high / (16 / 12))
    assert 0.4 < min(areas) < 0.6, "half, but for whole pixels"
    assert max(areas) > 0.9
    assert 0.65 < min(shapes) < 0.85
    assert 1.15 < max(shapes) < 1.55


def test_a_flip_mirrors_as_often_as_told() -> None:
    mirrored = 0
    for epoch in range(300):
        red = _varied(PictureAugment(flip=0.3), epoch)[0]
        assert torch.equal(red[0], torch.arange(16) * 10.0) or torch.equal(red[0], torch.arange(15, -1, -1) * 10.0)
        mirrored += bool(red[0, 0] > red[0, -1])
    assert 60 < mirrored < 120


def test_a_shift_moves_by_whole_pixels_and_repeats_the_border() -> None:
    moved = set()
    for epoch in range(100):
        red, green, _ = _varied(PictureAugment(shift_px=2), epoch)
        dx, dy = int(red[0, 8] / 10) - 8, int(green[6, 0] / 10) - 6
        assert torch.equal(red[0], (torch.arange(16) + dx).clamp(0, 15) * 10.0)
        assert torch.equal(green[:, 0], (torch.arange(12) + dy).clamp(0, 11) * 10.0)
        moved.add((dx, dy))
    assert {abs(d) for offset in moved for d in offset} == {0, 1, 2}
    assert len(moved) > 20


def test_grey_has_no_colour_and_brightness_is_one_factor() -> None:
    frames = _varied(PictureAugment(grey=1.0), 0)
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[1], frames[2])
    factors = {
        round(float(_varied(PictureAugment(brightness=0.4), epoch)[2].unique().item()) / 77, 1) for epoch in range(60)
    }
    assert factors <= {0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4}
    assert len(factors) >= 7


def test_an_erased_rectangle_has_the_clips_mean_colour() -> None:
    clip = _coordinates()
    mean = clip.frames.float().mean(dim=(0, 2, 3)).round()
    shares = []
    for epoch in range(200):
        frames = _varied(PictureAugment(erase=1.0), epoch)
        erased = (frames == mean[:, None, None]).all(dim=0)
        rows, columns = erased.any(dim=1), erased.any(dim=0)
        assert erased[rows][:, columns].all(), "one rectangle"
        assert torch.equal(frames[:, ~erased], clip.frames[0].float()[:, ~erased])
        shares.append(float(erased.float().mean()))
    assert 0.005 < min(shares) < 0.05
    assert 0.25 < max(shares) < 0.4


# Sound


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_ratio_that_was_asked_for(kind: str, snr_db: float) -> None:
    clip, key = _clip(0), Key(0, 0, 0)
    noise = make_noise(kind, 4000, key.stream("noise"), key, SPLIT)
    noisy = add_noise(clip, noise, snr_db)
    heard, added = clip.waveform[:3600].double(), (noisy - clip.waveform)[:3600].double()
    measured = 10 * torch.log10(heard.square().mean() / added.square().mean())
    assert float(measured) == pytest.approx(snr_db, abs=0.01)
    assert torch.equal(noisy[3600:], clip.waveform[3600:])


def test_an_augmentations_ratios_are_spread_over_their_range() -> None:
    ratios = []
    for epoch in range(300):
        clip = _clip(0)
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
    return replace(_clip(index), waveform=waveform, heard=4000)


def test_babble_is_four_other_clips_each_at_a_time_of_its_own() -> None:
    split = _Clips([_click(index) for index in range(9)])
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
    clips = [_click(0), None, _soundless(_clip(2)), _click(3), _click(4)]
    key = Key(0, 0, 0)
    babble = make_noise("babble", 4000, key.stream("noise"), key, _Clips(clips))
    assert sorted(int(value.log2()) for value in babble[babble > 0]) == [3, 4]
    nobody = make_noise("babble", 4000, key.stream("noise"), key, _Clips([_click(0), None]))
    assert not nobody.any()
    assert torch.equal(add_noise(_clip(0), nobody, 0.0), _clip(0).waveform)


def test_a_shorter_voice_goes_on() -> None:
    clips = [_clip(0), replace(_click(1), heard=1000, waveform=torch.cat([torch.ones(1000), torch.zeros(3000)]))]
    key = Key(0, 0, 0)
    assert (make_noise("babble", 4000, key.stream("noise"), key, _Clips(clips)) == 1).all()


def test_a_time_shift_moves_sound_within_the_time_it_is_heard() -> None:
    found = []
    for epoch in range(200):
        clip = _clip(0)
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
    assert min(found) < -750
    assert max(found) > 750


def test_a_shift_beyond_the_clip_leaves_silence() -> None:
    moved = [
        SoundAugment(time_shift_s=5).on_waveform(_clip(0), Key(0, epoch, 0), 8000, SPLIT).waveform
        for epoch in range(20)
    ]
    assert all(waveform.shape == (4000,) for waveform in moved)
    assert any(not waveform.any() for waveform in moved)


def _sample() -> Sample:
    return replace(
        SPEC.finish(_clip(0)),
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


# Mixup


def test_mixup_weighs_sound_picture_and_targets_alike() -> None:
    one, other = _clip(0), _clip(1)
    mixed = mix_clips(one, other, 0.25)
    torch.testing.assert_close(mixed.waveform, 0.25 * one.waveform + 0.75 * other.waveform)
    expected = 0.25 * one.frames.float() + 0.75 * other.frames.float()
    assert float((mixed.frames - expected).abs().max()) <= 0.5
    shares = []
    for epoch in range(300):
        sample, target = _apply(Augment(mixup=1.0, mixup_alpha=10.0), Key(0, epoch, 0))
        (partner,) = target[1:].nonzero()[:, 0] + 1 if target[0] < 1 else [None]
        if partner is None:
            continue  # the partner has the same tag
        shares.append(float(target[0]))
        # Clips 1 to 4 and 5 to 8 have the same tags: it is one of them.
        frames = [mix_clips(one, _clip(int(i)), shares[-1]).frames for i in (partner, partner + TAGS) if i < len(SPLIT)]
        assert any(torch.equal(sample.frames, expected) for expected in frames)
    assert torch.tensor(shares).mean() == pytest.approx(0.5, abs=0.03)
    assert torch.tensor(shares).std() == pytest.approx((1 / (4 * 21)) ** 0.5, abs=0.015), "of Beta(10, 10)"


def test_mixups_partner_is_never_the_clip_itself_and_each_other_as_likely() -> None:
    split = _Clips([replace(_clip(i), frames=torch.full((4, 3, 12, 16), 25 * i, dtype=torch.uint8)) for i in range(5)])
    counts = defaultdict(int)
    for epoch in range(400):
        _, target = _apply(Augment(mixup=1.0), Key(0, epoch, 2), split.clips[2], split)
        (partner,) = (index for index in range(5) if index != 2 and target[index] > 0)
        counts[partner] += 1
    assert sorted(counts) == [0, 1, 3, 4]
    assert all(70 < count < 130 for count in counts.values())


def test_mixup_where_only_one_shows_a_frame_keeps_that_frame() -> None:
    one = _clip(0)
    other = replace(_clip(1), frame_keep=torch.tensor([False, True, True, True]), heard=4000)
    mixed = mix_clips(one, other, 0.5)
    assert mixed.frame_keep.all()
    assert torch.equal(mixed.frames[0], one.frames[0])
    assert torch.equal(mixed.frames[3], other.frames[3])
    assert mixed.heard == 4000


@pytest.mark.parametrize(
    "clips",
    [
        [_clip(0)],
        [_clip(0), None],
        [_clip(0), _soundless(_clip(1))],
        [_clip(0), _pictureless(_clip(1))],
        [_soundless(_clip(0)), _clip(1)],
        [_pictureless(_clip(0)), _soundless(_clip(1))],
    ],
    ids=["alone", "unreadable", "soundless", "pictureless", "soundless itself", "nothing in common"],
)
def test_without_a_fitting_partner_a_clip_stays_as_it_is(clips: list[PaddedClip]) -> None:
    sample, target = _apply(Augment(mixup=1.0), Key(0, 0, 0), clips[0], _Clips(clips))
    assert _same(sample, SPEC.finish(clips[0]))
    assert torch.equal(target, torch.eye(TAGS)[0])


@pytest.mark.parametrize("take", [_soundless, _pictureless])
def test_clips_that_lack_the_same_modality_are_mixed(take) -> None:
    split = _Clips([take(_clip(0)), take(_clip(1))])
    sample, target = _apply(Augment(mixup=1.0), Key(0, 0, 0), split.clips[0], split)
    assert 0 < target[0] < 1
    assert not _same(sample, SPEC.finish(take(_clip(0))))
