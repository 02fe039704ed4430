"""Several views of a span: what each sees, and that a score is their mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tagging_rules import CLIP, FPS, rules

from mmattn.data.prepare.clips import ClipSpec
from mmattn.data.prepare.views import View, Views
from mmattn.errors import UsageError
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.media.read.decode import read_clip
from mmattn.media.write.video import write_video

CROP = replace(CLIP, fit="crop")
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 x 32 pixels, its left third red, the rest blue: 16 x 16 seen of it are one third."""
    frames = np.zeros((3 * FPS, 32, 96, 3), np.uint8)
    frames[:, :, :32], frames[:, :, 32:] = RED, BLUE
    path = tmp_path_factory.mktemp("wide") / "wide.mp4"
    write_video(path, frames, FPS, np.zeros(3 * 16000, np.float32))
    return path


def _red(result: dict) -> float:
    """From 1 where the left column is red to -1 where it is blue."""
    return {tag["tag"]: tag["score"] for tag in result["tags"]}["red_left"]


def _predict(path: Path, clip: ClipSpec, **settings) -> float:
    return _red(next(Predictor(rules(clip), threshold=-9.0, **settings).records([path])))


@pytest.mark.parametrize("step", [None, 0.5])
def test_three_crops_show_all_of_a_picture_and_the_score_is_their_mean(wide: Path, step: float | None) -> None:
    middle = _predict(wide, CROP, span_step_s=step)
    left, _, right = (_at(wide, place) for place in (0.0, 0.5, 1.0))
    assert (
        middle == pytest.approx(-1, abs=0.1)
        and left == pytest.approx(1, abs=0.1)
        and right == pytest.approx(middle, abs=1e-3)
    )
    three = _predict(wide, CROP, span_step_s=step, views=Views(crops=3))
    assert three == pytest.approx((left + middle + right) / 3, abs=2e-3)


def _at(path: Path, place: float) -> float:
    clip = CROP.read(path, canvas=Views(crops=3).canvas(CROP))
    assert clip.frames is not None and clip.frames.shape[-2:] == (16, 48)
    seen = View(place).cut(clip, CROP).frames
    assert seen is not None and seen.shape[-2:] == (16, 16)
    return float((seen[:, 0, :, 0].float() - seen[:, 2, :, 0].float()).mean()) / 255


def test_mirrored_views_see_the_other_side(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :16], picture[:, 16:] = BLUE, RED
    Image.fromarray(picture).save(tmp_path / "half.png")
    assert _predict(tmp_path / "half.png", CLIP) == pytest.approx(-1, abs=0.05)
    assert _predict(tmp_path / "half.png", CLIP, views=Views(flip=True)) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_of_whole_pictures_the_crops_are_a_little_nearer(wide: Path, fit: str) -> None:
    spec, views = replace(CLIP, fit=fit, height=14, width=28), Views(crops=3)
    clip = spec.read(wide, canvas=views.canvas(spec))
    assert clip.frames is not None and clip.frames.shape[-2:] == (16, 32)
    middle, first, last = (view.cut(clip, spec).frames for view in views.all)
    assert torch.equal(first, clip.frames[..., :14, :28]) and torch.equal(last, clip.frames[..., 2:, 4:])
    assert torch.equal(middle, clip.frames[..., 1:15, 2:30])


def test_the_middle_of_three_crops_is_what_was_trained_on(wide: Path) -> None:
    views = Views(crops=3)
    plain = CROP.prepare(CROP.read(wide))
    middle = views.samples(CROP.read(wide, canvas=views.canvas(CROP)), CROP)[0]
    assert (plain.frames.int() - middle.frames.int()).abs().float().mean() < 1
    assert torch.equal(plain.spectrogram, middle.spectrogram) and torch.equal(plain.frame_keep, middle.frame_keep)
    one = Views().samples(CROP.read(wide, canvas=Views().canvas(CROP)), CROP)
    assert len(one) == 1 and torch.equal(one[0].frames, plain.frames)


def test_all_views_have_the_sound_and_a_sound_file_has_one_view(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    write_video(tmp_path / "both.mp4", np.zeros((FPS, 32, 32, 3), np.uint8), FPS, tone)
    write_video(tmp_path / "sound.m4a", None, FPS, tone)
    views = Views(crops=3, flip=True)
    both = views.samples(CLIP.read(tmp_path / "both.mp4", canvas=views.canvas(CLIP)), CLIP)
    assert len(both) == 6 and all(torch.equal(sample.spectrogram, both[0].spectrogram) for sample in both)
    assert len(views.samples(CLIP.read(tmp_path / "sound.m4a", canvas=views.canvas(CLIP)), CLIP)) == 1
    predictor = Predictor(rules(), views=views, batch_size=4)
    first, second = predictor.records([tmp_path / "both.mp4", tmp_path / "sound.m4a"])
    assert {tag["tag"]: tag["score"] for tag in first["tags"]}["loud"] == pytest.approx(1, abs=0.1)
    assert {tag["tag"]: tag["score"] for tag in second["tags"]}["loud"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [(32, 32), (16, 40), (40, 16), (64, 24)])
def test_cover_fills_the_size_and_cuts_nothing(wide: Path, size: tuple[int, int]) -> None:
    frames = read_clip(wide, times=[0.5, 1.0], size=size, fit="cover").frames
    assert frames is not None
    height, width = frames.shape[-2:]
    assert (height == size[0] and width >= size[1]) or (width == size[1] and height >= size[0])
    assert width / height == pytest.approx(3, rel=0.05)
    middle = read_clip(wide, times=[0.5, 1.0], size=size, fit="crop").frames
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    assert torch.equal(middle, frames[..., top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("wrong", [{"crops": 2}, {"crops": 0}, {"flip": 1}])
def test_views_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=r"views\."):
        Views(**wrong)


def test_a_model_is_not_trained_on_pictures_of_many_shapes() -> None:
    with pytest.raises(ValueError, match=r"data\.clip\.fit must be one of stretch, crop, pad"):
        ClipSpec(fit="cover")
