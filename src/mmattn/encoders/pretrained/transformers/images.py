"""Image and video towers of transformers: CLIP, SigLIP, SigLIP 2, DINOv3 on frames, VideoMAE and PE-AV's on clips.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Siméoni et al. 2025
(DINOv3), Tong et al. 2022 (VideoMAE), Vyas et al. 2025 (PE-AV).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.frames import ClipEncoder, FrameEncoder, Kind, Projection, check_tokens, pooled, spread
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.transformers.image_tower import FRAMES, PE_VIDEO, VIDEOMAE
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens


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
        built = VIDEOMAE.build(pretrained, hub, architecture, preprocessing)
        config = built.model.config
        super().__init__(
            dim,
            _VideoMAE(built.pixels, built.model, 1 if tokens == "frame" else grid),
            config.hidden_size,
            mode,
            lora or {},
            frames=built.frames,
            window=config.num_frames,
            stride=config.tubelet_size,
            centred=False,
        )
        self.resolved = {"architecture": built.architecture, "preprocessing": built.settings}


class PEVideoEncoder(VisualEncoder):
    """PE-AV's video tower: an image tower on each frame, then attention over all frames. One token a frame.

    A model whose processor takes `num_frames` (16) of a clip sees so many, spread from its first to its last.
    """

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
        built = PE_VIDEO.build(pretrained, hub, architecture, preprocessing)
        self.frame_format = built.frames
        self.num_frames: int | None = built.settings["num_frames"]
        example = torch.zeros(1, 2, 3, *built.frames.size, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool)
        self.backbone = Adapted(_PEVideo(built.pixels, built.model), mode, lora or {}, example)
        self.project = Projection(built.model.config.hidden_size, dim)
        self.resolved = {"architecture": built.architecture, "preprocessing": built.settings}

    def forward(self, batch: Batch) -> Tokens:
        frames, keep, times = batch.frames, batch.frame_keep, batch.frame_times
        if self.num_frames is not None:
            chosen = spread(keep, self.num_frames)
            rows = torch.arange(len(batch), device=keep.device)[:, None]
            frames, keep, times = frames[rows, chosen], keep[rows, chosen], times[rows, chosen]
        values = self.project(self.backbone(frames, keep, real=keep.any(dim=1)))
        return Tokens(zero_padding(values, keep), keep, times, "frame_keep" in batch.full)


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
