"""VideoMAE (Tong et al. 2022) of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.clips import ClipEncoder, ClipNetwork
from mmattn.encoders.pretrained.tokens import Kind, check_tokens
from mmattn.encoders.pretrained.transformers.build import Family
from mmattn.encoders.pretrained.transformers.image_tower import BILINEAR, IMAGENET, Tower
from mmattn.encoders.pretrained.transformers.preprocessing import IMAGE_PROCESSOR, VIDEO_PROCESSOR

TOWER = Tower(
    Family(
        "VideoMAE",
        "videomae",
        "VideoMAEConfig",
        "VideoMAEModel",
        optional=("layernorm.",),
        processor=(IMAGE_PROCESSOR, VIDEO_PROCESSOR),
    ),
    {**IMAGENET, "resample": BILINEAR, "do_center_crop": True},
)


class VideoMAEEncoder(ClipEncoder):
    """VideoMAE on windows of its own length; a token covers a tubelet of `tubelet_size` frames."""

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
        built = TOWER.build(pretrained, hub, architecture, preprocessing)
        config = built.model.config
        super().__init__(
            dim,
            _VideoMAE(built.pixels, built.model, tokens, grid),
            config.hidden_size,
            mode,
            lora,
            frames=built.frames,
            window=config.num_frames,
            stride=config.tubelet_size,
            centred=False,
        )
        self.resolved = built.resolved


class _VideoMAE(ClipNetwork):
    def places(self, x: Float[Tensor, "N T 3 h w"]) -> Float[Tensor, "N S rows columns C"]:
        config = self.model.config
        side, steps = config.image_size // config.patch_size, config.num_frames // config.tubelet_size
        return self.model(pixel_values=x).last_hidden_state.unflatten(1, (steps, side, side))
