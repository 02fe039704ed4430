"""Image and video towers of transformers with the preprocessing of their frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.pretrained.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from mmattn.encoders.pretrained.transformers.build import Built, Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import VIDEO_PROCESSOR, frame_format, image_settings
from mmattn.errors import UsageError

BILINEAR, BICUBIC = 2, 3  # Pillow's numbers of filters, as processors save them
HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}


@dataclass(frozen=True)
class BuiltTower:
    """`settings`: what gives the same preprocessing again."""

    model: Any
    architecture: dict[str, Any]
    settings: dict[str, Any]
    pixels: Pixels
    frames: FrameFormat

    @property
    def resolved(self) -> dict[str, Any]:
        """See Encoder."""
        return {"architecture": self.architecture, "preprocessing": self.settings}


@dataclass(frozen=True)
class Tower:
    """A family with the `defaults` of its preprocessing, in the names of transformers' processors.

    `any_size`: the model takes images of other sizes than `image_size`, in whole patches.
    """

    family: Family
    defaults: Mapping[str, Any] = field(default_factory=dict)
    any_size: bool = False

    def build(
        self,
        pretrained: str | None,
        hub: bool,
        architecture: Mapping[str, Any] | None,
        preprocessing: Mapping[str, Any] | None,
        aspect: float = 1.0,
    ) -> BuiltTower:
        """From a folder or from scratch, see build_model. Raises UsageError."""
        built = build_model(self.family, pretrained, hub, architecture, preprocessing)
        saved = dict(built.preprocessing)
        image_size = _image_size(built)
        if self.family.model_type == "siglip2_vision_model":
            saved["size"] = _naflex_size(saved, built.model.config, aspect)
        try:
            settings = image_settings(saved, self.defaults, preprocessing or {}, image_size)
        except UsageError as error:
            raise UsageError(f"{pretrained}: {error}") from None
        if self.family.processor == (VIDEO_PROCESSOR,):
            sampled = saved.get("do_sample_frames") is not False
            settings.setdefault("num_frames", saved.get("num_frames") if sampled else None)
        frames = frame_format(settings)
        self._check_size(frames.size, image_size, getattr(built.model.config, "patch_size", 1), pretrained)
        pixels = Pixels(frames.size, settings["mean"], settings["std"], settings["interpolation"])
        return BuiltTower(built.model, built.architecture, settings, pixels, frames)

    def _check_size(self, size: tuple[int, int], image_size: int, patch: int, pretrained: str | None) -> None:
        fits = all(side % patch == 0 for side in size) if self.any_size else set(size) == {image_size}
        if not fits:
            expected = f"multiples of {patch}" if self.any_size else f"{image_size} x {image_size}"
            raise UsageError(
                f"{pretrained}: its processor makes images of {size[0]} x {size[1]} pixels, and its model expects "
                f"{expected}; check that all files of the folder belong to one model"
            )


def _image_size(built: Built) -> int:
    if hasattr(built.model, "embedder"):  # PE-AV, whose image tower is timm's
        cfg = built.model.embedder.vision_model.timm_model.pretrained_cfg
        return (built.architecture["vision_config"]["model_args"] or {}).get("img_size", cfg["input_size"][-1])
    return getattr(built.model.config, "image_size", 0)


def _naflex_size(saved: Mapping[str, Any], config: Any, aspect: float) -> dict[str, int]:
    """The size to which the library resizes an image of this width over height: as many whole patches as allowed."""
    from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

    if not 0.05 < aspect < 20:
        raise UsageError(f"aspect={aspect}: expected the width of the images over their height, from 0.05 to 20")
    most = saved.get("max_num_patches", config.num_patches)
    height, width = get_image_size_for_max_num_patches(1024, round(1024 * aspect), config.patch_size, most)
    return {"height": height, "width": width}
