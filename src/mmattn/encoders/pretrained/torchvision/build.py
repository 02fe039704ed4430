"""torchvision's networks by name, with or without pretrained weights.

A name is one of torchvision's builders (vit_b_16, resnet50, swin3d_t, mvit_v2_s, r2plus1d_18), or its family (vit,
resnet, swin3d, mvit, r2plus1d), which is built with the arguments of its class. `pretrained` is torchvision's file of
weights (.pth or .safetensors); with hub=true the name of weights (DEFAULT).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmattn.encoders.pretrained.weights import load_into, locate, read_tensors
from mmattn.errors import UsageError

_HEADS = ("fc.", "heads.", "head.")  # classifiers, which are not used


def family_of(name: str, families: tuple[str, ...]) -> str:
    """The family of a name. Raises UsageError unless torchvision has this model and it is of these families."""
    from torchvision.models import list_models

    known = [model for model in list_models() if model.startswith(tuple(f"{family}_" for family in families))]
    known += [model for model in list_models() if "resnet" in families and model.startswith("resnet")]
    if name not in (*families, *known):
        raise UsageError(f"name={name}: expected one of {', '.join((*families, *sorted(set(known))))}")
    return next(family for family in families if name.startswith(family))


def build_torchvision(name: str, arguments: dict[str, Any], pretrained: str | None, hub: bool) -> nn.Module:
    """The model `name`, whose head keeps its random weights. Raises UsageError."""
    from torchvision.models import get_model

    model = _BUILDERS[name](**arguments) if name in _BUILDERS else get_model(name, weights=None, **arguments)
    if pretrained is None:
        return model
    if hub and not Path(pretrained).exists():
        tensors, source = _download(name, pretrained), Path(pretrained)
    else:
        source = locate(pretrained, False, f"torchvision's file of {name} weights")
        tensors = read_tensors(source)
    if not any(key.startswith(_HEADS) for key in tensors):
        raise UsageError(f"{source}: not torchvision's weights of {name}")
    head = {key: value for key, value in model.state_dict().items() if key.startswith(_HEADS)}
    load_into(model, {**{k: v for k, v in tensors.items() if not k.startswith(_HEADS)}, **head}, source)
    return model


def _download(name: str, weights: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    try:
        return get_model_weights(name)[weights].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (KeyError, ValueError):
        offered = ", ".join(member.name for member in get_model_weights(name))
        raise UsageError(f"pretrained={weights}: torchvision offers {offered} for {name}") from None
    except OSError as error:
        raise UsageError(
            f"pretrained={weights}: cannot be downloaded ({error}); download torchvision's file of {name} weights and "
            "set pretrained= to its path"
        ) from None


def _resnet(layers: list[int], block: str = "basic", **arguments: Any) -> nn.Module:
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    return ResNet({"basic": BasicBlock, "bottleneck": Bottleneck}[block], layers, **arguments)


def _vit(**arguments: Any) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(**arguments)


def _swin3d(**arguments: Any) -> nn.Module:
    from torchvision.models.video import SwinTransformer3d

    return SwinTransformer3d(**arguments)


def _mvit(block_setting: list[dict[str, Any]], **arguments: Any) -> nn.Module:
    from torchvision.models.video import MViT
    from torchvision.models.video.mvit import MSBlockConfig

    return MViT(block_setting=[MSBlockConfig(**block) for block in block_setting], **arguments)


def _r2plus1d(layers: list[int]) -> nn.Module:
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    return VideoResNet(BasicBlock, [Conv2Plus1D] * 4, layers, R2Plus1dStem)


_BUILDERS = {"vit": _vit, "resnet": _resnet, "swin3d": _swin3d, "mvit": _mvit, "r2plus1d": _r2plus1d}
