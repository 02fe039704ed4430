"""The preprocessing of torchvision's networks: the transforms that come with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.pretrained.pixels import IMAGENET_MEAN, IMAGENET_STD, PILLOW, Interpolation, Pixels
from mmattn.errors import UsageError

_KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
_VIDEO = ("swin3d", "mvit", "r2plus1d")


@dataclass(frozen=True)
class Preprocessing:
    """`resize`: the size before the centre crop to `size` x `size`, see FrameFormat."""

    size: int
    resize: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"
    video: bool = False

    @property
    def frames(self) -> FrameFormat:
        """Video transforms resize tensors without antialiasing, image transforms use Pillow."""
        resample = "torchvision_bilinear" if self.video else PILLOW[self.interpolation]
        return FrameFormat((self.size, self.size), self.resize, resample)

    @property
    def pixels(self) -> Pixels:
        """The module that normalises frames of this size."""
        return Pixels(self.size, self.mean, self.std, self.interpolation)

    @property
    def settings(self) -> dict[str, Any]:
        """With its size, what gives the same preprocessing again."""
        resize = self.resize if isinstance(self.resize, int) else list(self.resize)
        return {"mean": list(self.mean), "std": list(self.std), "interpolation": self.interpolation, "resize": resize}


_FAMILIES = {  # for networks without named weights
    "vit": Preprocessing(224, 256, IMAGENET_MEAN, IMAGENET_STD),
    "resnet": Preprocessing(224, 256, IMAGENET_MEAN, IMAGENET_STD),
    "swin3d": Preprocessing(224, 256, IMAGENET_MEAN, IMAGENET_STD, video=True),
    "mvit": Preprocessing(224, 256, (0.45,) * 3, (0.225,) * 3, video=True),
    "r2plus1d": Preprocessing(112, (128, 171), *_KINETICS, video=True),
}


def preprocessing_for(
    name: str, family: str, pretrained: str | None, size: int | None, given: Mapping[str, Any] | None
) -> Preprocessing:
    """That of the weights, else of the family; `size` and the settings in `given` take precedence.

    Raises UsageError if the weights of this name need different preprocessing and `pretrained` does not tell which.
    """
    found = _FAMILIES[family] if pretrained is None or name == family else _of_weights(name, pretrained, bool(given))
    found = found or _FAMILIES[family]
    side = size or found.size
    resize: Any = found.resize
    if side != found.size:
        resize = (
            resize * side // found.size if isinstance(resize, int) else tuple(n * side // found.size for n in resize)
        )
    own = {**found.settings, "resize": resize, **(given or {})}
    resize = own["resize"]
    return Preprocessing(
        size=side,
        resize=resize if isinstance(resize, int) else (int(resize[0]), int(resize[1])),
        mean=tuple(own["mean"]),
        std=tuple(own["std"]),
        interpolation=own["interpolation"],
        video=family in _VIDEO,
    )


def _of_weights(name: str, pretrained: str, given: bool) -> Preprocessing | None:
    from torchvision.models import get_model_weights

    offered = get_model_weights(name)
    wanted = Path(pretrained).name
    chosen = [one for one in offered if Path(str(one.url)).name == wanted]
    if not chosen and pretrained in offered.__members__:  # downloaded by name
        chosen = [offered[pretrained]]
    possible = [_of_transforms(one.transforms()) for one in chosen or offered]
    if not possible or (len(set(possible)) > 1 and given):
        return None
    if len(set(possible)) > 1:
        raise UsageError(
            f"pretrained={pretrained}: torchvision's weights of {name} have {len(set(possible))} kinds of "
            f"preprocessing; keep the file's name ({', '.join(Path(str(one.url)).name for one in offered)}), or set "
            "visual.preprocessing={resize: N}"
        )
    return possible[0]


def _of_transforms(transforms: Any) -> Preprocessing:
    resize = transforms.resize_size
    return Preprocessing(
        size=int(transforms.crop_size[0]),
        resize=int(resize[0]) if len(resize) == 1 else (int(resize[0]), int(resize[1])),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        video=not hasattr(transforms, "antialias"),
    )
