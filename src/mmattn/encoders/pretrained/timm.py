"""Any image backbone of timm on each frame.

`pretrained` is a folder of a timm model (config.json, which names the architecture, and model.safetensors) or a file of
weights for `name`; with hub=true also the name of a model on the hub (timm/resnet18.a1_in1k).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.pretrained.adapt import Mode, run_on_meta
from mmattn.encoders.pretrained.frames import FrameEncoder, FrameNetwork
from mmattn.encoders.pretrained.pixels import PILLOW, Pixels
from mmattn.encoders.pretrained.tokens import Kind, check_tokens, pooled
from mmattn.encoders.pretrained.weights import load_into, locate, read_json, read_tensors
from mmattn.errors import UsageError

NO_PLACES = "its features are not a square map; set visual.tokens=frame to use its own pooling"
UNSAFE = ("pretrained", "checkpoint_path", "cache_dir", "features_only")  # arguments that read files or change outputs


class TimmFrames(FrameEncoder):
    """tokens=patch: the places of the last feature map, or `grid` x `grid` cells; tokens=frame: the model's pooling.

    `size`: pixels of a side; None: the model's default. `architecture`: more arguments for timm.create_model.
    `preprocessing`: mean, std, interpolation, crop_pct and crop_mode that differ from the model's own.
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
        source = None if pretrained is None else self._locate(pretrained, hub)
        saved = read_json(source / "config.json") if source is not None and source.is_dir() else {}
        name = saved.get("architecture", name)
        arguments = {**(saved.get("model_args") or {}), **(architecture or {})}
        model = _create(name, arguments, size)
        if source is not None:
            classifier = model.pretrained_cfg.get("classifier") or ()
            dropped = (classifier,) if isinstance(classifier, str) else tuple(classifier)
            load_into(model, self._tensors(source, model), source, dropped=dropped)
        config = {**model.pretrained_cfg, **(saved.get("pretrained_cfg") or {}), **(preprocessing or {})}
        settings, frames = _preprocessing(name, config, size)
        pixels = Pixels(frames.size, settings["mean"], settings["std"], settings["interpolation"])
        net = _Timm(pixels, model, tokens, grid, name)
        run_on_meta(net, torch.zeros(1, 3, *frames.size, dtype=torch.uint8))  # raises if it has no map of places
        super().__init__(dim, net, net.channels, mode, lora, frames=frames)
        self.resolved = {"name": name, "architecture": arguments, "preprocessing": settings, "size": frames.size[0]}

    def _locate(self, pretrained: str, hub: bool) -> Path:
        return locate(pretrained, hub, "a timm model's config.json and model.safetensors")

    def _tensors(self, source: Path, model: nn.Module) -> dict[str, Tensor]:
        return read_tensors(source)


class _Timm(FrameNetwork):
    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None, name: str) -> None:
        super().__init__(pixels, model, tokens, grid)
        self.name = name
        pools = tokens == "frame"
        self.channels = getattr(model, "head_hidden_size", model.num_features) if pools else model.num_features

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N P C"]:
        features = self.model.forward_features(self.pixels(frames))
        if self.tokens == "frame":
            return self.model.forward_head(features, pre_logits=True)[:, None]
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise UsageError(f"name={self.name}: {NO_PLACES}")
        if features.ndim == 3:
            features = features[:, getattr(self.model, "num_prefix_tokens", 0) or 0 :]
            side = math.isqrt(features.shape[1])
            if side < 2 or side * side != features.shape[1]:
                raise UsageError(f"name={self.name}: {NO_PLACES}")
            return pooled(features.unflatten(1, (side, side)), self.grid)
        if getattr(self.model, "output_fmt", "NCHW") != "NHWC":
            features = features.permute(0, 2, 3, 1)
        return pooled(features, self.grid)


def _preprocessing(name: str, config: Mapping[str, Any], size: int | None) -> tuple[dict[str, Any], FrameFormat]:
    """The preprocessing of timm's evaluation for a model with this `pretrained_cfg`. Raises UsageError."""
    from timm.data import resolve_data_config  # type: ignore[attr-defined]

    found = resolve_data_config({}, pretrained_cfg=dict(config))
    interpolation, mode = found["interpolation"], found["crop_mode"]
    if interpolation not in PILLOW:
        raise UsageError(f"name={name}: interpolation={interpolation}: expected bicubic or bilinear")
    if mode not in ("center", "squash"):
        raise UsageError(f"name={name}: crop_mode={mode}: expected center or squash")
    sides = found["input_size"][-2:] if size is None else (size, size)
    if sides[0] != sides[1]:
        raise UsageError(f"name={name}: expects {sides[0]} x {sides[1]} pixels, only squares are supported; set size=")
    edge = math.floor(sides[0] / found["crop_pct"])
    settings = {key: list(found[key]) for key in ("mean", "std")}
    settings |= {key: found[key] for key in ("interpolation", "crop_pct", "crop_mode")}
    resize = edge if mode == "center" else (edge, edge)
    return settings, FrameFormat((sides[0], sides[0]), resize, PILLOW[interpolation])


def _create(name: str, arguments: Mapping[str, Any], size: int | None) -> Any:
    try:
        import timm
    except ImportError:
        raise UsageError("visual=timm needs timm: pip install 'mmattn[encoders]'") from None
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name[:6]}*")[:5] if name[:6].isalnum() else []
        hint = f"; similar names: {', '.join(similar)}" if similar else ""
        raise UsageError(f"name={name}: timm has no such model{hint}")
    if unsafe := [key for key in arguments if key.startswith(UNSAFE)]:
        raise UsageError(f"architecture.{unsafe[0]}: not an argument of an architecture; remove it")
    model: Any = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    if size is not None and model.pretrained_cfg.get("fixed_input_size") and size != _side(model):
        model = timm.create_model(name, pretrained=False, num_classes=0, **{**arguments, "img_size": size})
    return model


def _side(model: Any) -> int:
    return model.pretrained_cfg["input_size"][-1]
