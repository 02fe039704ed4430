"""What training varies in the picture, as far and as often as told."""

from __future__ import annotations

from dataclasses import replace

import torch
from augment_clips import make_clip
from torch import Tensor

from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import PaddedClip
from mmattn.data.prepare.keys import Key


def _coordinates() -> PaddedClip:
    """Red is ten times the column, green ten times the row, blue constant."""
    frames = torch.full((4, 3, 12, 16), 77, dtype=torch.uint8)
    frames[:, 0] = torch.arange(16, dtype=torch.uint8) * 10
    frames[:, 1] = torch.arange(12, dtype=torch.uint8)[:, None] * 10
    return replace(make_clip(0), frames=frames, frame_keep=torch.ones(4, dtype=torch.bool))


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


def test_masked_frames_are_stretches_of_the_clips_mean_picture() -> None:
    frames = torch.arange(1, 11, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 2, 2).clone()
    keep = torch.arange(10) < 8
    frames[8:] = 0
    lengths, starts = set(), set()
    for epoch in range(200):
        shown = PictureAugment(masks=1, mask_frames=3)(frames, keep, Key(0, epoch, 0))
        masked = (shown != frames).all(dim=(1, 2, 3)).nonzero()[:, 0].tolist()
        assert all((shown[i] == 4).all() for i in masked), "4.5, to even"
        assert not set(masked) & {8, 9}
        # Frame 3 is the mean's own value: a stretch may seem to have a hole there, or to stop before it.
        assert not masked or masked[-1] - masked[0] < 3
        lengths.add(len(masked))
        starts |= set(masked[:1])
    assert lengths == {0, 1, 2, 3}
    assert starts == {0, 1, 2, 4, 5, 6, 7}


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
