"""YAMNet with the weights of a file, a folder or the installed package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mmattn.encoders.pretrained.weights import load_into, locate, read_tensors
from mmattn.encoders.pretrained.yamnet.network import YAMNet
from mmattn.errors import UsageError

PACKAGED = "package"  # for pretrained=
WEIGHTS, PUBLISHED, CLASS_NAMES = "yamnet.safetensors", "yamnet.tflite", "yamnet_class_map.csv"


def load_yamnet(pretrained: str) -> YAMNet:
    """YAMNet with the weights of a folder or file; pretrained=package: of the installed package. Raises UsageError."""
    from mmattn.encoders.pretrained.yamnet.onnx import GRAPH, packaged_folder, read_onnx

    if pretrained == PACKAGED:
        path = packaged_folder() / GRAPH
        return _filled(read_onnx(path), path)
    path = locate(pretrained, False, f"{PUBLISHED} (YAMNet with 521 classes for TensorFlow Lite)")
    if path.is_dir():
        files = [path / name for name in (WEIGHTS, PUBLISHED) if (path / name).is_file()]
        if not files:
            raise UsageError(f"{path}: neither {WEIGHTS} nor {PUBLISHED} is in this folder")
        path = files[0]
    if path.suffix == ".tflite":
        from mmattn.encoders.pretrained.yamnet.tflite import read_tflite

        tensors = read_tflite(path)
    else:
        tensors = read_tensors(path)
    return _filled(tensors, path)


def _filled(tensors: Mapping[str, Tensor], path: Path) -> YAMNet:
    model = YAMNet()
    load_into(model, dict(tensors), path)
    return model.eval()
