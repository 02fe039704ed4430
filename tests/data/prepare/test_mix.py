"""Mixup: one weight for sound, picture and targets, and only with a fitting partner."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from augment_clips import SPEC, SPLIT, TAGS, Split, apply, make_clip, pictureless, same, soundless

from mmattn.data.prepare.augment.mix import mix_clips
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import PaddedClip
from mmattn.data.prepare.keys import Key


def test_mixup_weighs_sound_picture_and_targets_alike() -> None:
    one, other = make_clip(0), make_clip(1)
    mixed = mix_clips(one, other, 0.25)
    torch.testing.assert_close(mixed.waveform, 0.25 * one.waveform + 0.75 * other.waveform)
    expected = 0.25 * one.frames.float() + 0.75 * other.frames.float()
    assert float((mixed.frames - expected).abs().max()) <= 0.5
    shares = []
    for epoch in range(300):
        sample, target = apply(Augment(mixup=1.0, mixup_alpha=10.0), Key(0, epoch, 0))
        (partner,) = target[1:].nonzero()[:, 0] + 1 if target[0] < 1 else [None]
        if partner is None:
            continue  # the partner has the same tag
        shares.append(float(target[0]))
        # Clips 1 to 4 and 5 to 8 have the same tags: it is one of them.
        frames = [
            mix_clips(one, make_clip(int(i)), shares[-1]).frames for i in (partner, partner + TAGS) if i < len(SPLIT)
        ]
        assert any(torch.equal(sample.frames, expected) for expected in frames)
    assert torch.tensor(shares).mean() == pytest.approx(0.5, abs=0.03)
    assert torch.tensor(shares).std() == pytest.approx((1 / (4 * 21)) ** 0.5, abs=0.015), "of Beta(10, 10)"


def test_mixups_partner_is_never_the_clip_itself_and_each_other_as_likely() -> None:
    split = Split(
        [replace(make_clip(i), frames=torch.full((4, 3, 12, 16), 25 * i, dtype=torch.uint8)) for i in range(5)]
    )
    counts = defaultdict(int)
    for epoch in range(400):
        _, target = apply(Augment(mixup=1.0), Key(0, epoch, 2), split.clips[2], split)
        (partner,) = (index for index in range(5) if index != 2 and target[index] > 0)
        counts[partner] += 1
    assert sorted(counts) == [0, 1, 3, 4]
    assert all(70 < count < 130 for count in counts.values())


def test_mixup_where_only_one_shows_a_frame_keeps_that_frame() -> None:
    one = make_clip(0)
    other = replace(make_clip(1), frame_keep=torch.tensor([False, True, True, True]), heard=4000)
    mixed = mix_clips(one, other, 0.5)
    assert mixed.frame_keep.all()
    assert torch.equal(mixed.frames[0], one.frames[0])
    assert torch.equal(mixed.frames[3], other.frames[3])
    assert mixed.heard == 4000


@pytest.mark.parametrize(
    "clips",
    [
        [make_clip(0)],
        [make_clip(0), None],
        [make_clip(0), soundless(make_clip(1))],
        [make_clip(0), pictureless(make_clip(1))],
        [soundless(make_clip(0)), make_clip(1)],
        [pictureless(make_clip(0)), soundless(make_clip(1))],
    ],
    ids=["alone", "unreadable", "soundless", "pictureless", "soundless itself", "nothing in common"],
)
def test_without_a_fitting_partner_a_clip_stays_as_it_is(clips: list[PaddedClip]) -> None:
    sample, target = apply(Augment(mixup=1.0), Key(0, 0, 0), clips[0], Split(clips))
    assert same(sample, SPEC.finish(clips[0]))
    assert torch.equal(target, torch.eye(TAGS)[0])


@pytest.mark.parametrize("take", [soundless, pictureless])
def test_clips_that_lack_the_same_modality_are_mixed(take) -> None:
    split = Split([take(make_clip(0)), take(make_clip(1))])
    sample, target = apply(Augment(mixup=1.0), Key(0, 0, 0), split.clips[0], split)
    assert 0 < target[0] < 1
    assert not same(sample, SPEC.finish(take(make_clip(0))))
