"""YAMNet against its published TFLite file, executed step by step in float64; and its front end against its formula."""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.network import (
    CLASSES,
    HOP,
    PATCH,
    RATE,
    YAMNet,
    YamnetLogMel,
    fill_last_patch,
    patch_count,
    patch_times,
    to_patches,
)
from mmattn.encoders.pretrained.yamnet.tflite import read_tflite
from mmattn.encoders.pretrained.yamnet.weights import load_yamnet
from mmattn.errors import UsageError

SHARED = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[5] / "shared")) / "data"
SCRIPT = Path(__file__).parents[4] / "scripts" / "convert_yamnet.py"
needs_shared = pytest.mark.skipif(not (SHARED / "yamnet").is_dir(), reason="no shared data")


def _sound(seconds: float, seed: int = 0) -> Tensor:
    t = torch.arange(round(seconds * RATE)) / RATE
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(seed))
    return 0.3 * torch.sin(2 * torch.pi * 700 * t) * (t % 0.5 < 0.25) + 0.01 * noise


class _Graph:
    """The file's operators, one by one, in float64; weights of 8 bits times their scale."""

    def __init__(self, path: Path) -> None:
        import tflite

        self.tflite = tflite
        self.model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
        self.graph = self.model.Subgraphs(0)
        self.names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}

    def constant(self, index: int) -> Any:
        tensor = self.graph.Tensors(index)
        data = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        types = self.tflite.TensorType
        kind = {types.INT8: np.int8, types.FLOAT32: np.float32, types.INT32: np.int32}[tensor.Type()]
        values = data.view(kind).reshape(tensor.ShapeAsNumpy())
        if kind is np.int8:
            return values.astype(np.float64) * np.float64(tensor.Quantization().ScaleAsNumpy()[0])
        return values.astype(np.float64) if kind is np.float32 else values

    def __call__(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """15,600 samples -> 521 scores, and the spectrogram (96, 64)."""
        values: dict[int, Any] = {int(self.graph.InputsAsNumpy()[0]): waveform[None].astype(np.float64)}
        for operator in (self.graph.Operators(i) for i in range(self.graph.OperatorsLength())):
            name = self.names[self.model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
            given = [int(i) for i in operator.InputsAsNumpy()]
            read = [values[i] if i in values else None if i < 0 else self.constant(i) for i in given]
            values[int(operator.OutputsAsNumpy()[0])] = self.step(name, operator, read)
        scores, spectrogram = (values[int(i)] for i in self.graph.OutputsAsNumpy())
        return scores[0], spectrogram

    def step(self, name: str, operator: Any, read: list[Any]) -> np.ndarray:
        x = read[0]
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self.convolution(name == "DEPTHWISE_CONV_2D", operator, *read)
        return {
            "RESHAPE": lambda: x.reshape(read[1]),
            "SLICE": lambda: x[int(read[1][0]) :][: int(read[2][0])],
            "STRIDED_SLICE": lambda: x[: len(x) // 48 * 48],
            "GATHER": lambda: x[read[1]],
            "MUL": lambda: x * read[1],
            "ADD": lambda: x + read[1],
            "PAD": lambda: np.pad(x, read[1]),
            "SQRT": lambda: np.sqrt(x),
            "LOG": lambda: np.log(x),
            "LOGISTIC": lambda: 1 / (1 + np.exp(-x)),
            "DEQUANTIZE": lambda: x,
            "MEAN": lambda: x.mean(axis=tuple(read[1])),
            "FULLY_CONNECTED": lambda: x @ read[1].T + (0 if read[2] is None else read[2]),
        }[name]()

    def convolution(self, depthwise: bool, operator: Any, x: Any, weight: Any, bias: Any) -> np.ndarray:
        options = self.tflite.DepthwiseConv2DOptions() if depthwise else self.tflite.Conv2DOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        assert options.Padding() == self.tflite.Padding.SAME
        assert options.FusedActivationFunction() == self.tflite.ActivationFunctionType.RELU
        stride, kernel = options.StrideH(), weight.shape[1]
        over = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[1:3]]
        padded = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in over), (0, 0)])
        seen = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
        how = "bhwckl,oklc->bhwc" if depthwise else "bhwckl,oklc->bhwo"
        return np.maximum(np.einsum(how, seen, weight, optimize=True) + bias, 0)


@pytest.fixture(scope="module")
def sounds() -> list[Tensor]:
    """One piece of a real sound of each of ten kinds."""
    from mmattn.media.read.decode import read_clip

    folders = sorted(path for path in (SHARED / "esc10").iterdir() if path.is_dir())
    clips = [read_clip(sorted(folder.glob("*.ogg"))[0], video=False, audio_rate=RATE) for folder in folders]
    return [clip.waveform[8000 : 8000 + PATCH] for clip in clips if clip.waveform is not None]


@needs_shared
def test_scores_of_real_sounds_are_those_of_the_published_graph(sounds: list[Tensor]) -> None:
    """On the spectrogram that the graph makes, whose matrices of 8 bits are its own."""
    graph, network = _Graph(SHARED / "yamnet" / "yamnet.tflite"), load_yamnet(str(SHARED / "yamnet"))
    assert len(sounds) == 10
    for sound in sounds:
        scores, spectrogram = graph(sound.numpy())
        with torch.no_grad():
            ours = torch.sigmoid(network(torch.from_numpy(spectrogram).float()[None]))[0]
        assert float((ours - torch.from_numpy(scores)).abs().max()) < 1e-4


@needs_shared
def test_with_an_exact_front_end_the_published_graph_says_the_same_from_end_to_end(sounds: list[Tensor]) -> None:
    graph, network, front_end = (
        _Graph(SHARED / "yamnet" / "yamnet.tflite"),
        load_yamnet(str(SHARED / "yamnet")),
        YamnetLogMel(),
    )
    exact = _exact_matrices()
    rounded = graph.constant

    def constant(index: int) -> Any:
        value = rounded(index)
        if value.shape == (257, 512):
            wave = exact[0] if abs(value[1, 0]) > 0.5 else exact[1]
            return wave * np.sign((wave * value).sum())
        return exact[2] if value.shape == (64, 257) else value

    graph.constant = constant  # type: ignore[method-assign]
    for sound in sounds:
        scores, spectrogram = graph(sound.numpy())
        patches = to_patches(front_end(sound[None]))[0]
        with torch.no_grad():
            ours = torch.sigmoid(network(patches))[0]
        assert float((patches[0] - torch.from_numpy(spectrogram)).abs().max()) < 5e-3  # of a logarithm, in silence
        assert float((ours - torch.from_numpy(scores)).abs().max()) < 1e-3


def _exact_matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines, sines (257, 512), and mel triangles (64, 257) that are straight on the mel scale."""
    angles = 2 * np.pi * np.outer(np.arange(257), np.arange(512)) / 512
    mels = 1127 * np.log1p(np.arange(257) * RATE / 512 / 700)
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    triangles = [np.interp(mels, edges[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(64)]
    return np.cos(angles), np.sin(angles), np.stack(triangles)


def test_the_front_end_is_its_formula() -> None:
    sound = _sound(1.3)
    cosines, sines, triangles = _exact_matrices()
    starts = range(0, len(sound) - 400 + 1, 160)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([np.pad(sound[i : i + 400].double().numpy() * hann, (0, 112)) for i in starts])
    wanted = np.log(np.hypot(frames @ cosines.T, frames @ sines.T) @ triangles.T + 0.001)
    torch.testing.assert_close(YamnetLogMel()(sound[None])[0].double(), torch.from_numpy(wanted), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "count"), [(0, 0), (1, 1), (PATCH, 1), (PATCH + 1, 2), (PATCH + HOP, 2), (PATCH + HOP + 1, 3)]
)
def test_patches_cover_all_of_a_sound_and_no_more(samples: int, count: int) -> None:
    assert int(patch_count(torch.tensor(samples))) == count
    if samples:
        assert to_patches(YamnetLogMel()(fill_last_patch(_sound(3)[None, :samples]))).shape == (1, count, 96, 64)
        times = patch_times(count)
        assert float(times[0]) == pytest.approx(PATCH / 2 / RATE)
        assert float(times[-1]) - PATCH / 2 / RATE < samples / RATE


def test_padding_is_tensorflows() -> None:
    """What is odd goes behind: a kernel of 3 with stride 2 reads 96 rows as 0..2, 2..4, ..., 94..96, one beyond."""
    first = YAMNet().body[0]
    rows = torch.zeros(1, 1, 96, 64, requires_grad=True)
    with torch.no_grad():
        first[0].weight.fill_(1.0)
        first[0].bias.fill_(1.0)
    output = first(rows)
    assert output.shape == (1, 32, 48, 32)
    output[0, 0, 47, 0].backward()
    assert rows.grad is not None
    assert rows.grad[0, 0].any(dim=1).nonzero()[:, 0].tolist() == [94, 95]


@needs_shared
def test_converted_weights_are_the_same(tmp_path: Path) -> None:
    shutil.copytree(SHARED / "yamnet", tmp_path / "w")
    (tmp_path / "w").chmod(0o755)
    written = runpy.run_path(str(SCRIPT))["convert"](tmp_path / "w")
    published = load_yamnet(str(tmp_path / "w" / "yamnet.tflite")).state_dict()
    (tmp_path / "w" / "yamnet.tflite").unlink()
    converted = load_yamnet(str(tmp_path / "w"))
    assert written.name == "yamnet.safetensors" and converted.classes.out_features == CLASSES
    assert all(torch.equal(tensor, published[name]) for name, tensor in converted.state_dict().items())


@needs_shared
def test_a_spoiled_file_is_one_line_or_read_all_the_same(tmp_path: Path) -> None:
    data, path = (SHARED / "yamnet" / "yamnet.tflite").read_bytes(), tmp_path / "yamnet.tflite"
    random = np.random.default_rng(0)
    spoiled = [b"", b"no flatbuffer at all", data[: len(data) // 2], data[:100]]
    for _ in range(40):
        copy = bytearray(data)
        for at in (*random.integers(0, 300, 4), *random.integers(len(data) - 30_000, len(data), 20)):
            copy[at] = int(random.integers(0, 256))
        spoiled.append(bytes(copy))
    refused = 0
    for content in spoiled:
        path.write_bytes(content)
        try:
            read_tflite(path)
        except UsageError as error:
            refused += 1
            assert "\n" not in str(error) and "yamnet.tflite" in str(error)
    assert refused > 10
