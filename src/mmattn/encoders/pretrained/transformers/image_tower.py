"""The image and video towers of transformers that can be encoders, and how their frames are prepared.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Siméoni et al. 2025
(DINOv3), Tong et al. 2022 (VideoMAE), Vyas et al. 2025 (PE-AV).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.pretrained.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from mmattn.encoders.pretrained.transformers.build import Built, Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import frame_format, image_settings
from mmattn.errors import UsageError

_BILINEAR, _BICUBIC = 2, 3  # as image libraries number their filters
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_IMAGENET = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
_CLIP = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_IMAGE, _VIDEO = "image_processor", "video_processor"


@dataclass(frozen=True)
class BuiltTower:
    """`settings` make the same frames again."""

    model: Any
    architecture: dict[str, Any]
    settings: dict[str, Any]
    pixels: Pixels
    frames: FrameFormat


@dataclass(frozen=True)
class Tower:
    """A family with how its processor prepares frames where its folder does not say, in transformers' words.

    `any_size`: whether it reads pictures of other sizes than `image_size`, in whole patches.
    """

    family: Family
    processor: Mapping[str, Any] = field(default_factory=dict)
    any_size: bool = False

    def build(
        self,
        pretrained: str | None,
        hub: bool,
        architecture: Mapping[str, Any] | None,
        preprocessing: Mapping[str, Any] | None,
        aspect: float = 1.0,
    ) -> BuiltTower:
        """Raises UsageError."""
        built = build_model(self.family, pretrained, hub, architecture or {}, preprocessing)
        saved = dict(built.preprocessing)
        image_size = _image_size(built)
        if self.family.model_type == "siglip2_vision_model":
            saved["size"] = _naflex_size(saved, built.model.config, aspect)
        try:
            settings = image_settings(saved, self.processor, preprocessing or {}, image_size)
        except UsageError as error:
            raise UsageError(f"{pretrained}: {error}") from None
        if self.family.prepared == (_VIDEO,):
            sampled = saved.get("do_sample_frames") is not False
            settings.setdefault("num_frames", saved.get("num_frames") if sampled else None)
        frames = frame_format(settings)
        patch = getattr(built.model.config, "patch_size", 1)
        fits = all(side % patch == 0 for side in frames.size) if self.any_size else set(frames.size) == {image_size}
        if not fits:
            wanted = f"multiples of {patch}" if self.any_size else f"{image_size} x {image_size}"
            raise UsageError(
                f"{pretrained}: prepares pictures of {frames.size[0]} x {frames.size[1]} pixels, and its model wants "
                f"{wanted}; are its files of two models?"
            )
        pixels = Pixels(frames.size, settings["mean"], settings["std"], settings["interpolation"])
        return BuiltTower(built.model, built.architecture, settings, pixels, frames)


def _image_size(built: Built) -> int:
    if hasattr(built.model, "embedder"):  # PE-AV's, whose image tower is timm's
        cfg = built.model.embedder.vision_model.timm_model.pretrained_cfg
        return (built.architecture["vision_config"]["model_args"] or {}).get("img_size", cfg["input_size"][-1])
    return getattr(built.model.config, "image_size", 0)


def _naflex_size(saved: Mapping[str, Any], config: Any, aspect: float) -> dict[str, int]:
    """What the library makes of a picture of that width over height: as many whole patches as may be."""
    from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

    if not 0.05 < aspect < 20:
        raise UsageError(f"aspect={aspect}: expected the width of pictures over their height")
    most = saved.get("max_num_patches", config.num_patches)
    height, width = get_image_size_for_max_num_patches(1024, round(1024 * aspect), config.patch_size, most)
    return {"height": height, "width": width}
