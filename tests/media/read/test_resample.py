"""Pictures resized in the reader as image libraries resize them: value for value."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as old
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as new

from mmattn.media.read.request import Request
from mmattn.media.read.video.resample import Resample, middle, resample, scaled_size

SIZES = [(90, 160), (224, 398), (57, 32), (64, 64), (231, 129)]


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def _library(kind: str, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    library, _, name = kind.partition("_")
    mode = InterpolationMode(name)
    if library == "pillow":
        return np.asarray(old.resize(Image.fromarray(picture), list(size), mode))
    if library == "torchvision":
        return old.resize(_tensor(picture), list(size), mode, antialias=False)[0].permute(1, 2, 0).numpy()
    return new.resize(_tensor(picture), list(size), mode, antialias=True)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("shape", [(180, 320), (541, 303), (31, 57)])
@pytest.mark.parametrize("kind", [kind for kind in get_args(Resample) if kind != "swscale"])
def test_a_picture_is_resized_as_the_library_does_it(kind: Resample, shape: tuple[int, int]) -> None:
    picture = _picture(*shape)
    for size in SIZES:
        ours, theirs = resample(picture, size, kind), _library(kind, picture, size)
        assert ours.shape == (*size, 3) and ours.dtype == np.uint8
        misses = np.abs(ours.astype(int) - theirs)
        if kind == "torchvision_bilinear":  # whose halves fall to either side in float32
            assert misses.max() <= 1 and (misses > 0).mean() < 0.0005
        else:
            assert misses.max() == 0


@pytest.mark.parametrize("shape", [(180, 320), (320, 180), (100, 101)])
@pytest.mark.parametrize("resize", [64, 67, (70, 91)])
def test_what_is_cut_is_the_middle_as_torchvision_has_it(shape: tuple[int, int], resize: Any) -> None:
    picture, size = _picture(*shape), (60, 60)
    transformed = old.resize(Image.fromarray(picture), resize)
    scaled = scaled_size(shape, size, resize)
    assert scaled == (transformed.height, transformed.width)
    ours = middle(resample(picture, scaled, "pillow_bilinear"), size, "pillow_bilinear")
    assert np.array_equal(ours, np.asarray(old.center_crop(transformed, list(size))))


@pytest.mark.parametrize(
    ("resize", "fit"), [(20, "crop"), ((40, 20), "stretch"), (64, "pad"), (64, "cover"), ((40, 40, 40), "stretch")]
)
def test_a_resize_that_leaves_no_middle_is_refused(resize: Any, fit: Any) -> None:
    with pytest.raises(ValueError, match="resize must be"):
        Request(fps=1, size=(32, 32), fit=fit, resize=resize)
