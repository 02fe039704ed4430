"""Image and video towers of transformers: CLIP, SigLIP, SigLIP 2, DINOv3 on frames, VideoMAE and PE-AV's on clips.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Siméoni et al. 2025
(DINOv3), Tong et al. 2022 (VideoMAE), Vyas et al. 2025 (PE-AV).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.frames import FrameEncoder
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.transformers.build import Family
from mmattn.encoders.pretrained.transformers.image_tower import (
    _BICUBIC,
    _BILINEAR,
    _CLIP,
    _HALF,
    _IMAGE,
    _IMAGENET,
    Tower,
)
from mmattn.errors import UsageError


class TransformersFrames(FrameEncoder):
    """An image tower on each frame. `kind`: clip, siglip, siglip2 (NaFlex) or dinov3.

    tokens=patch: its places, or `grid` x `grid` cells of them; tokens=frame: its own pooling. `architecture` holds the
    fields of transformers' config for it when nothing is `pretrained`. `preprocessing`: mean, std, interpolation, size
    and resize (see image_settings), where they differ from the model's own. `aspect`: width over height of the pictures
    that siglip2 gets, which makes of each shape as many whole patches as it may.
    """

    def __init__(
        self,
        dim: int,
        kind: str,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        tokens: Kind = "patch",
        grid: int | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        aspect: float = 1.0,
    ) -> None:
        check_tokens(tokens)
        if kind not in FRAMES:
            raise UsageError(f"kind={kind}: expected one of {', '.join(FRAMES)}")
        built = FRAMES[kind].build(pretrained, hub, architecture, preprocessing, aspect)
        net = (_Siglip2 if kind == "siglip2" else _Frames)(built.pixels, built.model, tokens, grid)
        super().__init__(dim, net, built.model.config.hidden_size, mode, lora or {}, frames=built.frames)
        self.resolved = {"architecture": built.architecture, "preprocessing": built.settings}


class _Frames(nn.Module):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        super().__init__()
        self.pixels, self.model, self.tokens, self.grid = pixels, model, tokens, grid

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        read = self.read(self.pixels(frames))
        if self.tokens == "frame":
            return read.pooler_output[:, None]
        down, across = self.places
        return pooled(read.last_hidden_state[:, -down * across :].unflatten(1, (down, across)), self.grid)

    @property
    def places(self) -> tuple[int, int]:
        height, width = self.pixels.size
        return height // self.model.config.patch_size, width // self.model.config.patch_size

    def read(self, pixels: Float[Tensor, "N 3 h w"]) -> Any:
        return self.model(pixel_values=pixels)


class _Siglip2(_Frames):
    def read(self, pixels: Float[Tensor, "N 3 h w"]) -> Any:
        """NaFlex takes patches, each with its channels last, and the shape that they make."""
        patch = self.model.config.patch_size
        down, across = self.places
        cells = pixels.unflatten(2, (down, patch)).unflatten(4, (across, patch))  # (N, 3, down, patch, across, patch)
        return self.model(
            pixel_values=cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            pixel_attention_mask=pixels.new_ones(len(pixels), down * across, dtype=torch.long),
            spatial_shapes=torch.tensor([[down, across]], device=pixels.device).expand(len(pixels), -1),
        )


FRAMES = {
    "clip": Tower(
        Family(
            "CLIP",
            "clip_vision_model",
            "CLIPVisionConfig",
            "CLIPVisionModel",
            {"clip": "vision_config"},
            prepared=(_IMAGE,),
        ),
        {**_CLIP, "resample": _BICUBIC, "do_center_crop": True},
    ),
    "siglip": Tower(
        Family(
            "SigLIP",
            "siglip_vision_model",
            "SiglipVisionConfig",
            "SiglipVisionModel",
            {"siglip": "vision_config"},
            prepared=(_IMAGE,),
        ),
        {**_HALF, "resample": _BICUBIC},
    ),
    "siglip2": Tower(
        Family(
            "SigLIP 2 NaFlex",
            "siglip2_vision_model",
            "Siglip2VisionConfig",
            "Siglip2VisionModel",
            {"siglip2": "vision_config"},
            prepared=(_IMAGE,),
        ),
        {**_HALF, "resample": _BILINEAR},
        any_size=True,
    ),
    "dinov3": Tower(
        Family(
            "DINOv3",
            "dinov3_vit",
            "DINOv3ViTConfig",
            "DINOv3ViTModel",
            optional=("embeddings.mask_token",),
            prepared=(_IMAGE,),
        ),
        {**_IMAGENET, "resample": _BILINEAR},
        any_size=True,
    ),
}
