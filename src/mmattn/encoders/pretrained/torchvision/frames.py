"""torchvision's ViT and ResNet on each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.frames import FrameEncoder, FrameNetwork
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.torchvision.build import build_torchvision, family_of
from mmattn.encoders.pretrained.torchvision.preprocessing import preprocessing_for

_FAMILIES = ("vit", "resnet")


class TorchvisionFrames(FrameEncoder):
    """A ViT or ResNet on each frame. tokens=patch: its places, or `grid` x `grid` cells of them; tokens=frame: one.

    `size`: pixels of a side; None: as its weights were trained. `preprocessing`: mean, std, interpolation and resize
    that differ from the transforms of the weights.
    """

    def __init__(
        self,
        dim: int,
        name: str,
        mode: Mode,
        size: int | None = None,
        pretrained: str | None = None,
        hub: bool = False,
        tokens: Kind = "patch",
        grid: int | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        check_tokens(tokens)
        arguments = dict(architecture or {})
        family = family_of(name, _FAMILIES)
        inputs = preprocessing_for(name, family, pretrained, size, preprocessing)
        if family == "vit":
            model = build_torchvision(name, {"image_size": inputs.size, **arguments}, pretrained, hub)
            net = _Vit(inputs.pixels, model, tokens, grid)
        else:
            net = _Resnet(inputs.pixels, build_torchvision(name, arguments, pretrained, hub), tokens, grid)
        super().__init__(dim, net, net.channels, mode, lora, frames=inputs.frames)
        self.resolved = {"size": inputs.size, "preprocessing": inputs.settings}


class _Vit(FrameNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.hidden_dim
        model.heads = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        x = self.model._process_input(self.pixels(frames))
        x = self.model.encoder(torch.cat([self.model.class_token.expand(len(x), -1, -1), x], dim=1))
        if self.tokens == "frame":
            return x[:, :1]
        side = self.model.image_size // self.model.patch_size
        return pooled(x[:, 1:].unflatten(1, (side, side)), self.grid)


class _Resnet(FrameNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.fc.in_features
        model.fc = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        x = self.pixels(frames)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = getattr(self.model, name)(x)
        return pooled(x.permute(0, 2, 3, 1), 1 if self.tokens == "frame" else self.grid)
