"""Image towers of transformers on each frame: CLIP, SigLIP, SigLIP 2 and DINOv3.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Siméoni et al. 2025
(DINOv3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.frames import FrameEncoder, FrameNetwork
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.transformers.build import Family
from mmattn.encoders.pretrained.transformers.image_tower import BICUBIC, BILINEAR, HALF, IMAGENET, Tower
from mmattn.encoders.pretrained.transformers.preprocessing import IMAGE_PROCESSOR
from mmattn.errors import UsageError

_CLIP = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}


def _family(name: str, kind: str, prefix: str) -> Family:
    config, model = f"{prefix}VisionConfig", f"{prefix}VisionModel"
    return Family(name, f"{kind}_vision_model", config, model, {kind: "vision_config"}, processor=(IMAGE_PROCESSOR,))


TOWERS = {
    "clip": Tower(_family("CLIP", "clip", "CLIP"), {**_CLIP, "resample": BICUBIC, "do_center_crop": True}),
    "siglip": Tower(_family("SigLIP", "siglip", "Siglip"), {**HALF, "resample": BICUBIC}),
    "siglip2": Tower(_family("SigLIP 2 NaFlex", "siglip2", "Siglip2"), {**HALF, "resample": BILINEAR}, any_size=True),
    "dinov3": Tower(
        Family(
            "DINOv3",
            "dinov3_vit",
            "DINOv3ViTConfig",
            "DINOv3ViTModel",
            optional=("embeddings.mask_token",),
            processor=(IMAGE_PROCESSOR,),
        ),
        {**IMAGENET, "resample": BILINEAR},
        any_size=True,
    ),
}


class TransformersFrames(FrameEncoder):
    """An image tower on each frame. `kind`: clip, siglip, siglip2 (NaFlex) or dinov3.

    tokens=patch: its places, or `grid` x `grid` cells of them; tokens=frame: its own pooling. `architecture`: the
    fields of transformers' config for a model from scratch. `preprocessing`: mean, std, interpolation, size and resize
    (see image_settings) that differ from the model's own. `aspect`: width over height of the images for siglip2, which
    resizes each shape to as many whole patches as it may.
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
        if kind not in TOWERS:
            raise UsageError(f"kind={kind}: expected one of {', '.join(TOWERS)}")
        built = TOWERS[kind].build(pretrained, hub, architecture, preprocessing, aspect)
        net = (_Siglip2 if kind == "siglip2" else _ImageTower)(built.pixels, built.model, tokens, grid)
        super().__init__(dim, net, built.model.config.hidden_size, mode, lora, frames=built.frames)
        self.resolved = built.resolved


class _ImageTower(FrameNetwork):
    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        output = self.run(self.pixels(frames))
        if self.tokens == "frame":
            return output.pooler_output[:, None]
        rows, columns = self.map_size
        return pooled(output.last_hidden_state[:, -rows * columns :].unflatten(1, (rows, columns)), self.grid)

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.pixels.size
        return height // self.model.config.patch_size, width // self.model.config.patch_size

    def run(self, pixels: Float[Tensor, "N 3 h w"]) -> Any:
        """The library's output for these pixels."""
        return self.model(pixel_values=pixels)


class _Siglip2(_ImageTower):
    def run(self, pixels: Float[Tensor, "N 3 h w"]) -> Any:
        """NaFlex takes patches, each with its channels last, and the shape of their map."""
        patch = self.model.config.patch_size
        rows, columns = self.map_size
        cells = pixels.unflatten(2, (rows, patch)).unflatten(4, (columns, patch))  # (N, 3, rows, patch, columns, patch)
        return self.model(
            pixel_values=cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            pixel_attention_mask=pixels.new_ones(len(pixels), rows * columns, dtype=torch.long),
            spatial_shapes=torch.tensor([[rows, columns]], device=pixels.device).expand(len(pixels), -1),
        )
