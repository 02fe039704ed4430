"""What holds for every augmentation: what each may change, and that it depends on its key alone."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
import torch
from augment_clips import FLOOR, SPEC, SPLIT, TAGS, Split, apply, make_clip, pictureless, same, soundless, tensors

from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment, without_audio, without_video
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import PaddedClip
from mmattn.data.prepare.keys import Key

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
    "picture_masks": PictureAugment(masks=1, mask_frames=2),
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
    | {"mixup": Augment(mixup=0.8), "modality_dropout": Augment(modality_dropout=0.3), "speed": Augment(speed=0.2)}
)
EVERYTHING = Augment(
    modality_dropout=0.3,
    mixup=0.8,
    picture=PictureAugment(0.6, 0.3, 0.5, 2, 0.5, 0.5, 0.5, 0.3, 0.5, 0.7, 1, 2),
    sound=SoundAugment(0.1, 0.8, "babble", (-10, 20), 6, 2, 0.1, 3),
    speed=0.2,
)


@pytest.mark.parametrize("name", AUGMENTS)
def test_shapes_types_ranges_and_masks_are_kept(name: str) -> None:
    plain = SPEC.finish(make_clip(0))
    for epoch in range(20):
        sample, target = apply(AUGMENTS[name], Key(0, epoch, 0))
        for one, other in zip(tensors(plain), tensors(sample), strict=True):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
        assert sample.spectrogram.isfinite().all()
        assert sample.spectrogram.min() >= FLOOR
        if name == "speed":  # slower: what was padding shows and sounds what comes later now
            continue
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
    plain, clip = SPEC.finish(make_clip(0)), make_clip(0)
    changed = sum(not same(apply(AUGMENTS[name], Key(0, epoch, 0), clip)[0], plain) for epoch in range(20))
    assert changed >= 5
    assert same(clip, make_clip(0))


@pytest.mark.parametrize("name", [*AUGMENTS, "everything"])
def test_each_depends_on_its_key_alone(name: str) -> None:
    augment = EVERYTHING if name == "everything" else AUGMENTS[name]
    first = [apply(augment, Key(1, epoch, 2))[0] for epoch in range(8)]
    torch.rand(7), random.random()  # no global generator has a say
    again = [apply(augment, Key(1, epoch, 2))[0] for epoch in reversed(range(8))][::-1]
    assert all(map(same, first, again))
    others = (
        [Key(2, e, 2) for e in range(8)],
        [Key(1, e + 8, 2) for e in range(8)],
        [Key(1, e, 2, 1) for e in range(8)],
    )
    for keys in others:
        assert not all(map(same, first, (apply(augment, key)[0] for key in keys)))


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
            apply(augment, _Watched(3, epoch, 1))
            drawn.append(dict(DRAWN))
    assert all(list(streams) == [name] for streams in alone), "one stream each, of its own name"
    assert [streams[name] for streams in among] == [streams[name] for streams in alone]


@pytest.mark.parametrize("take", [soundless, pictureless])
@pytest.mark.parametrize("name", AUGMENTS)
def test_a_missing_modality_stays_missing(name: str, take) -> None:
    plain = SPEC.finish(take(make_clip(0)))
    for epoch in range(10):
        sample, _ = apply(AUGMENTS[name], Key(0, epoch, 0), take(make_clip(0)))
        assert sample.frame_keep.any() == plain.frame_keep.any()
        assert sample.spectrogram_keep.any() == plain.spectrogram_keep.any()
        if take is soundless:
            assert (sample.spectrogram == FLOOR).all()
        else:
            assert not sample.frames.any()


@pytest.mark.parametrize("name", [*PICTURES, "mixup"])
def test_all_frames_of_a_clip_are_treated_alike(name: str) -> None:
    """A still stays a still."""

    def still(clip: PaddedClip) -> PaddedClip:
        frames = clip.frames[:1].repeat(4, 1, 1, 1)
        return replace(clip, frames=frames, frame_keep=torch.ones(4, dtype=torch.bool))

    split = Split([still(make_clip(index)) for index in range(9)])
    for epoch in range(10):
        frames = apply(AUGMENTS[name], Key(0, epoch, 0), split.clips[0], split)[0].frames
        assert torch.equal(frames, frames[:1].expand_as(frames))


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_leaves_the_picture_alone_and_the_reverse(name: str) -> None:
    plain = SPEC.finish(make_clip(0))
    assert torch.equal(apply(AUGMENTS[name], Key(0, 0, 0))[0].frames, plain.frames)
    for picture in PICTURES:
        assert torch.equal(apply(AUGMENTS[picture], Key(0, 0, 0))[0].spectrogram, plain.spectrogram)


def test_zero_settings_change_nothing() -> None:
    plain = SPEC.finish(make_clip(0))
    assert not Augment().needs_waveform
    for clip in (make_clip(0), plain):
        sample, target = Augment()(clip, torch.ones(TAGS), Key(0, 0, 0), SPEC, SPLIT)
        assert same(sample, plain)
        assert torch.equal(target, torch.ones(TAGS))


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_spectrogram_will_do_unless_the_waveform_is_changed(name: str) -> None:
    augment, key = AUGMENTS[name], Key(0, 1, 0)
    assert augment.needs_waveform == (name in ("time_shift", "mixup", "speed") or name.startswith("noise"))
    sample = SPEC.finish(make_clip(0))
    if augment.needs_waveform:
        with pytest.raises(TypeError, match="PaddedClip"):
            augment(sample, SPLIT.target(0), key, SPEC, SPLIT)
    else:
        assert same(augment(sample, SPLIT.target(0), key, SPEC, SPLIT)[0], apply(augment, key)[0])


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


def test_modality_dropout_takes_each_as_often_as_told_and_never_both() -> None:
    augment, lost, sample = Augment(modality_dropout=0.2), {"video": 0, "audio": 0}, SPEC.finish(make_clip(0))
    for epoch in range(1000):
        left, _ = augment(sample, torch.ones(TAGS), Key(0, epoch, 0), SPEC, SPLIT)
        gone = {"video": not left.frame_keep.any(), "audio": not left.spectrogram_keep.any()}
        assert not all(gone.values())
        for name in lost:
            lost[name] += gone[name]
    assert all(150 < count < 250 for count in lost.values())


@pytest.mark.parametrize("take", [without_audio, without_video])
def test_the_only_modality_of_a_clip_is_never_taken(take) -> None:
    augment, sample = Augment(modality_dropout=0.5), take(SPEC.finish(make_clip(0)))
    for epoch in range(50):
        left, _ = augment(sample, torch.ones(TAGS), Key(0, epoch, 0), SPEC, SPLIT)
        assert left.frame_keep.any() or left.spectrogram_keep.any()
