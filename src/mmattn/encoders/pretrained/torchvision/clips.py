"""torchvision's Swin3D, MViT and R(2+1)D on windows of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.clips import ClipEncoder, ClipNetwork
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens
from mmattn.encoders.pretrained.torchvision.build import build_torchvision, family_of
from mmattn.encoders.pretrained.torchvision.preprocessing import preprocessing_for
from mmattn.errors import UsageError

_FAMILIES = ("swin3d", "mvit", "r2plus1d")


class TorchvisionClips(ClipEncoder):
    """A Swin3D, MViT or R(2+1)D on windows of `window` frames. tokens=frame: one token for each of its time steps.

    `size`, `preprocessing`: as in TorchvisionFrames.
    """

    def __init__(
        self,
        dim: int,
        name: str,
        window: int,
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
        family = family_of(name, _FAMILIES)
        stride = {"swin3d": 2, "mvit": 2, "r2plus1d": 8}[family]
        if window < stride or window % stride:
            raise UsageError(f"window={window}: {name} takes a multiple of {stride} frames")
        arguments = dict(architecture or {})
        inputs = preprocessing_for(name, family, pretrained, size, preprocessing)
        if family == "mvit" and name != "mvit" and (inputs.size, window) != (224, 16):
            raise UsageError(f"{name} needs size=224 and window=16; for others set name=mvit and an architecture")
        if name == "mvit":
            arguments = {"spatial_size": (inputs.size, inputs.size), "temporal_size": window, **arguments}
        model = build_torchvision(name, arguments, pretrained, hub)
        net = {"swin3d": _Swin3d, "mvit": _Mvit, "r2plus1d": _R2plus1d}[family](inputs.pixels, model, tokens, grid)
        super().__init__(
            dim,
            net,
            net.channels,
            mode,
            lora,
            frames=inputs.frames,
            window=window,
            stride=stride,
            centred=family != "swin3d",
        )
        self.resolved = {"size": inputs.size, "preprocessing": inputs.settings}


class _Swin3d(ClipNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.num_features
        model.head = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N T 3 h w"]) -> Float[Tensor, "N S rows columns C"]:
        x = self.model.pos_drop(self.model.patch_embed(x.transpose(1, 2)))
        return self.model.norm(self.model.features(x))


class _Mvit(ClipNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.head[1].in_features
        model.head = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N T 3 h w"]) -> Float[Tensor, "N S rows columns C"]:
        x = self.model.conv_proj(x.transpose(1, 2)).flatten(2).mT
        x = self.model.pos_encoding(x)
        shape = (self.model.pos_encoding.temporal_size, *self.model.pos_encoding.spatial_size)
        for block in self.model.blocks:
            x, shape = block(x, shape)
        return self.model.norm(x)[:, 1:].unflatten(1, shape)


class _R2plus1d(ClipNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.fc.in_features
        model.fc = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N T 3 h w"]) -> Float[Tensor, "N S rows columns C"]:
        x = self.model.stem(x.transpose(1, 2))
        for layer in (self.model.layer1, self.model.layer2, self.model.layer3, self.model.layer4):
            x = layer(x)
        return x.permute(0, 2, 3, 4, 1)
