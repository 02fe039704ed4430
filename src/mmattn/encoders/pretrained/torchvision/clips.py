"""torchvision's Swin3D, MViT and R(2+1)D on windows of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.clips import ClipEncoder
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.torchvision.build import build_torchvision, family_of
from mmattn.encoders.pretrained.torchvision.preprocessing import prepared
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
        seen = prepared(name, family, pretrained, size, preprocessing)
        if family == "mvit" and name != "mvit" and (seen.size, window) != (224, 16):
            raise UsageError(f"{name} is made for size=224 and window=16; name=mvit with an architecture may differ")
        if name == "mvit":
            arguments = {"spatial_size": (seen.size, seen.size), "temporal_size": window, **arguments}
        model = build_torchvision(name, arguments, pretrained, hub)
        net = {"swin3d": _Swin3d, "mvit": _Mvit, "r2plus1d": _R2plus1d}[family](seen.pixels, model, tokens, grid)
        super().__init__(
            dim,
            net,
            net.channels,
            mode,
            lora or {},
            frames=seen.frames,
            window=window,
            stride=stride,
            centred=family != "swin3d",
        )
        self.resolved = {"size": seen.size, "preprocessing": seen.settings}


class _Clips(nn.Module):
    """What the clip networks share: frames to (N, 3, T, size, size), places to tokens."""

    channels: int

    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        super().__init__()
        self.pixels = pixels
        self.model = model
        self.grid = 1 if tokens == "frame" else grid

    def forward(self, windows: UInt8[Tensor, "N T 3 H W"]) -> Float[Tensor, "N S P C"]:
        x = self.pixels(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).transpose(1, 2)
        places = self.places(x)
        return pooled(places.flatten(0, 1), self.grid).unflatten(0, places.shape[:2])

    def places(self, x: Float[Tensor, "N 3 T H W"]) -> Float[Tensor, "N S h w C"]:
        raise NotImplementedError


class _Swin3d(_Clips):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.num_features
        model.head = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N 3 T H W"]) -> Float[Tensor, "N S h w C"]:
        return self.model.norm(self.model.features(self.model.pos_drop(self.model.patch_embed(x))))


class _Mvit(_Clips):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.head[1].in_features
        model.head = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N 3 T H W"]) -> Float[Tensor, "N S h w C"]:
        x = self.model.conv_proj(x).flatten(2).mT
        x = self.model.pos_encoding(x)
        shape = (self.model.pos_encoding.temporal_size, *self.model.pos_encoding.spatial_size)
        for block in self.model.blocks:
            x, shape = block(x, shape)
        return self.model.norm(x)[:, 1:].unflatten(1, shape)


class _R2plus1d(_Clips):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        self.channels = model.fc.in_features
        model.fc = nn.Identity()
        super().__init__(pixels, model, tokens, grid)

    def places(self, x: Float[Tensor, "N 3 T H W"]) -> Float[Tensor, "N S h w C"]:
        x = self.model.stem(x)
        for layer in (self.model.layer1, self.model.layer2, self.model.layer3, self.model.layer4):
            x = layer(x)
        return x.permute(0, 2, 3, 4, 1)
