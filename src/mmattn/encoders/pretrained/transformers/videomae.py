"""VideoMAE (Tong et al. 2022) of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.clips import ClipEncoder
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.transformers.build import Family
from mmattn.encoders.pretrained.transformers.image_tower import _BILINEAR, _IMAGE, _IMAGENET, _VIDEO, Tower


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


VIDEOMAE = Tower(
    Family(
        "VideoMAE",
        "videomae",
        "VideoMAEConfig",
        "VideoMAEModel",
        optional=("layernorm.",),
        prepared=(_IMAGE, _VIDEO),
    ),
    {**_IMAGENET, "resample": _BILINEAR, "do_center_crop": True},
)
