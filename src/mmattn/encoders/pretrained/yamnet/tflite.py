"""The weights of YAMNet's published TFLite file, from 8-bit integers with a scale to float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmattn.errors import UsageError

_LAYERS = 27  # convolutions


def read_tflite(path: Path) -> dict[str, Tensor]:
    """Tensors under the names of `YAMNet`, in the order of the file's operators. Raises UsageError."""
    try:
        import tflite
    except ImportError:
        raise UsageError(f"reading {path.name} needs tflite: pip install 'mmattn[encoders]'") from None
    try:
        model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        graph = model.Subgraphs(0)
        return _layers(tflite, model, graph)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, KeyError) as error:
        raise UsageError(f"{path}: not YAMNet's TFLite file ({type(error).__name__}: {error})") from None
    except Exception as error:  # on damaged files the reader raises errors of its own libraries
        if type(error).__module__.partition(".")[0] in ("struct", "flatbuffers"):
            raise UsageError(f"{path}: not YAMNet's TFLite file ({error})") from None
        raise


def _layers(tflite: Any, model: Any, graph: Any) -> dict[str, Tensor]:
    kinds = tflite.BuiltinOperator
    tensors: dict[str, Tensor] = {}
    packed = {}  # dequantised tensor -> its 8-bit tensor
    dense = None
    for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
        kind = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        reads, writes = operator.InputsAsNumpy(), operator.OutputsAsNumpy()
        if kind == kinds.DEQUANTIZE:
            packed[writes[0]] = reads[0]
        elif kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
            weight = _values(tflite, model, graph, packed.get(reads[1], reads[1]))
            order = (0, 3, 1, 2) if kind == kinds.CONV_2D else (3, 0, 1, 2)  # to (out, in, height, width)
            name = f"body.{len(tensors) // 2}.0"
            tensors[f"{name}.weight"] = weight.permute(order).contiguous()
            tensors[f"{name}.bias"] = _values(tflite, model, graph, reads[2])
        elif kind == kinds.FULLY_CONNECTED:
            dense = reads
    if dense is None or len(tensors) != 2 * _LAYERS:
        raise ValueError(f"{len(tensors) // 2} convolutions")
    tensors["classes.weight"] = _values(tflite, model, graph, dense[1])
    tensors["classes.bias"] = _values(tflite, model, graph, dense[2])
    return tensors


def _values(tflite: Any, model: Any, graph: Any, index: int) -> Tensor:
    tensor = graph.Tensors(int(index))
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    shape = tensor.ShapeAsNumpy().tolist()
    if tensor.Type() == tflite.TensorType.FLOAT32:
        return torch.from_numpy(data.view(np.float32).reshape(shape).copy())
    scale = tensor.Quantization().ScaleAsNumpy()
    if tensor.Type() != tflite.TensorType.INT8 or len(scale) != 1 or tensor.Quantization().ZeroPointAsNumpy().any():
        raise ValueError("weights are not 8 bits with one scale")
    return torch.from_numpy(data.view(np.int8).reshape(shape).astype(np.float32) * scale[0])
