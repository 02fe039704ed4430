"""Image and video towers of transformers: CLIP, SigLIP, SigLIP 2, DINOv3 on frames, VideoMAE and PE-AV's on clips.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Siméoni et al. 2025
(DINOv3), Tong et al. 2022 (VideoMAE), Vyas et al. 2025 (PE-AV).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.adapt import Adapted, Mode
from mmattn.encoders.frames import ClipEncoder, FrameEncoder, Kind, Projection, check_tokens, pooled
from mmattn.encoders.huggingface import Built, Family, build_model
from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels
from mmattn.encoders.temporal import zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
_BILINEAR = 2  # as image libraries number their filters


@dataclass(frozen=True)
class _Tower:
    """A family with how its frames are prepared where its folder does not say."""

    family: Family
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def pixels(self, built: Built, given: Mapping[str, Any], size: int) -> tuple[Pixels, dict[str, Any]]:
        """And the settings that make the same again: what is given, else the folder's, else the family's."""
        own = built.preprocessing
        settings: dict[str, Any] = {
            "mean": list(own.get("image_mean", self.mean)),
            "std": list(own.get("image_std", self.std)),
            "interpolation": self.interpolation,
        }
        if "resample" in own:
            settings["interpolation"] = "bilinear" if own["resample"] == _BILINEAR else "bicubic"
        settings.update(given)
        return Pixels(size, **settings), settings


_FRAMES = {
    "clip": _Tower(
        Family("CLIP", "clip_vision_model", "CLIPVisionConfig", "CLIPVisionModel", {"clip": "vision_config"}),
        _CLIP_MEAN,
        _CLIP_STD,
        "bicubic",
    ),
    "siglip": _Tower(
        Family("SigLIP", "siglip_vision_model", "SiglipVisionConfig", "SiglipVisionModel", {"siglip": "vision_config"}),
        _HALF,
        _HALF,
        "bicubic",
    ),
    "siglip2": _Tower(
        Family(
            "SigLIP 2 NaFlex",
            "siglip2_vision_model",
            "Siglip2VisionConfig",
            "Siglip2VisionModel",
            {"siglip2": "vision_config"},
        ),
        _HALF,
        _HALF,
    ),
    "dinov3": _Tower(
        Family("DINOv3", "dinov3_vit", "DINOv3ViTConfig", "DINOv3ViTModel", optional=("embeddings.mask_token",)),
        IMAGENET_MEAN,
        IMAGENET_STD,
    ),
}
_VIDEOMAE = _Tower(
    Family("VideoMAE", "videomae", "VideoMAEConfig", "VideoMAEModel", optional=("layernorm.",)),
    IMAGENET_MEAN,
    IMAGENET_STD,
)
_PE_VIDEO = _Tower(
    Family(
        "PE-AV video",
        "pe_video_encoder",
        "PeVideoEncoderConfig",
        "PeVideoEncoder",
        {"pe_video": "video_config", "pe_audio_video": "audio_video_config.video_config"},
        prefixes=("video_model.video_encoder.", "video_encoder."),
    ),
    _HALF,
    _HALF,
)


class TransformersFrames(FrameEncoder):
    """An image tower on each frame. `kind`: clip, siglip, siglip2 (NaFlex) or dinov3.

    tokens=patch: its places, or `grid` x `grid` cells of them; tokens=frame: its own pooling. `architecture` holds the
    fields of transformers' config for it when nothing is `pretrained`.
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
    ) -> None:
        check_tokens(tokens)
        if kind not in _FRAMES:
            raise UsageError(f"kind={kind}: expected one of {', '.join(_FRAMES)}")
        tower = _FRAMES[kind]
        built = build_model(tower.family, pretrained, hub, architecture or {})
        config = built.model.config
        size = math.isqrt(config.num_patches) * config.patch_size if kind == "siglip2" else config.image_size
        pixels, settings = tower.pixels(built, preprocessing or {}, size)
        net = (_Siglip2 if kind == "siglip2" else _Frames)(pixels, built.model, tokens, grid)
        super().__init__(dim, net, config.hidden_size, mode, lora or {}, size=size)
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}


class VideoMAEEncoder(ClipEncoder):
    """VideoMAE on windows of its own length; a token stands for a tubelet of `tubelet_size` frames."""

    def __init__(
        self,
        dim: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        tokens: Kind = "patch",
        grid: int | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        check_tokens(tokens)
        built = build_model(_VIDEOMAE.family, pretrained, hub, architecture or {})
        config = built.model.config
        pixels, settings = _VIDEOMAE.pixels(built, preprocessing or {}, config.image_size)
        super().__init__(
            dim,
            _VideoMAE(pixels, built.model, 1 if tokens == "frame" else grid),
            config.hidden_size,
            mode,
            lora or {},
            size=config.image_size,
            window=config.num_frames,
            stride=config.tubelet_size,
            centred=False,
        )
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}


class PEVideoEncoder(VisualEncoder):
    """PE-AV's video tower: an image tower on each frame, then attention over all frames. One token a frame."""

    def __init__(
        self,
        dim: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        built = build_model(_PE_VIDEO.family, pretrained, hub, architecture or {})
        size = built.model.embedder.vision_model.timm_model.pretrained_cfg["input_size"][-1]
        size = (built.architecture["vision_config"]["model_args"] or {}).get("img_size", size)
        pixels, settings = _PE_VIDEO.pixels(built, preprocessing or {}, size)
        example = torch.zeros(1, 2, 3, size, size, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool)
        self.backbone = Adapted(_PEVideo(pixels, built.model), mode, lora or {}, example)
        self.project = Projection(built.model.config.hidden_size, dim)
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}

    def forward(self, batch: Batch) -> Tokens:
        keep = batch.frame_keep
        values = self.project(self.backbone(batch.frames, keep, real=keep.any(dim=1)))
        return Tokens(zero_padding(values, keep), keep, batch.frame_times, "frame_keep" in batch.full)


class _Frames(nn.Module):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        super().__init__()
        self.pixels, self.model, self.tokens, self.grid = pixels, model, tokens, grid

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        read = self.read(self.pixels(frames))
        if self.tokens == "frame":
            return read.pooler_output[:, None]
        side = self.pixels.size // self.model.config.patch_size
        return pooled(read.last_hidden_state[:, -side * side :].unflatten(1, (side, side)), self.grid)

    def read(self, pixels: Float[Tensor, "N 3 S S"]) -> Any:
        return self.model(pixel_values=pixels)


class _Siglip2(_Frames):
    def read(self, pixels: Float[Tensor, "N 3 S S"]) -> Any:
        """NaFlex takes patches, each with its channels last, and the shape that they make."""
        patch = self.model.config.patch_size
        side = self.pixels.size // patch
        cells = pixels.unflatten(2, (side, patch)).unflatten(4, (side, patch))  # (N, 3, side, patch, side, patch)
        return self.model(
            pixel_values=cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),
            pixel_attention_mask=pixels.new_ones(len(pixels), side * side, dtype=torch.long),
            spatial_shapes=torch.tensor([[side, side]], device=pixels.device).expand(len(pixels), -1),
        )


class _VideoMAE(nn.Module):
    def __init__(self, pixels: Pixels, model: Any, grid: int | None) -> None:
        super().__init__()
        self.pixels, self.model, self.grid = pixels, model, grid

    def forward(self, windows: UInt8[Tensor, "N T 3 H W"]) -> Float[Tensor, "N S P C"]:
        config = self.model.config
        x = self.pixels(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        side, steps = config.image_size // config.patch_size, config.num_frames // config.tubelet_size
        places = self.model(pixel_values=x).last_hidden_state.unflatten(1, (steps, side, side))
        return pooled(places.flatten(0, 1), self.grid).unflatten(0, places.shape[:2])


class _PEVideo(nn.Module):
    def __init__(self, pixels: Pixels, model: Any) -> None:
        super().__init__()
        self.pixels, self.model = pixels, model

    def forward(self, frames: UInt8[Tensor, "N T 3 H W"], keep: Bool[Tensor, "N T"]) -> Float[Tensor, "N T C"]:
        x = self.pixels(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        keep = keep | ~keep.any(dim=1, keepdim=True)  # attention to nothing has no value
        return self.model(pixel_values_videos=x, padding_mask_videos=keep).last_hidden_state
