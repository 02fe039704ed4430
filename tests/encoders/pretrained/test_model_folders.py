"""Folders of transformers that are damaged, hostile, sharded or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import clip_model, saved

from mmattn.config.compose import build
from mmattn.errors import UsageError


def test_half_precision_weights_become_float32(tmp_path: Path, tiny_config: Callable) -> None:
    folder = saved(tmp_path, *clip_model())
    tensors = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    ours = build(tiny_config("visual=clip", f"visual.pretrained={folder}")["visual"])
    assert {p.dtype for p in ours.parameters()} == {torch.float32}


HOSTILE = {
    "auto_map": {"AutoModel": "evil.Model"},
    "attn_implementation": "someone/kernels",
    "_attn_implementation": "someone/kernels",
    "quantization_config": {"quant_method": "gptq"},
    "dtype": "float16",
    "pruned_heads": {"0": [0]},
}


def test_a_config_says_nothing_beyond_its_architecture(tmp_path: Path, tiny_config: Callable) -> None:
    folder = saved(tmp_path, *clip_model())
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= HOSTILE
    (folder / "config.json").write_text(json.dumps(config | HOSTILE))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    ours = build(tiny_config("visual=clip", f"visual.pretrained={folder}")["visual"])
    assert not HOSTILE.keys() & ours.resolved["architecture"].keys()
    assert ours.backbone.net.model.config._attn_implementation in ("sdpa", "eager")


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _other_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def _not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _tensors_missing(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _wrong_value(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = "wide"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_config, "config.json"),
        (_other_kind, "holds a 'bert' model, not a CLIP"),
        (_not_json, "not readable JSON"),
        (_pickle_only, "may hold code and is not read"),
        (_cut, "cannot read weights"),
        (_tensors_missing, "are missing"),
        (_outside, "outside its folder"),
        (_wrong_value, "hidden_size"),
    ],
)
def test_a_spoiled_folder_is_one_line(spoil: Callable, says: str, tmp_path: Path, tiny_config: Callable) -> None:
    spoil(folder := saved(tmp_path / "m", *clip_model()))
    with pytest.raises(UsageError, match=says) as error:
        build(tiny_config("visual=clip", f"visual.pretrained={folder}")["visual"])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_sharded_weights_are_read_whole(tmp_path: Path, tiny_config: Callable) -> None:
    folder = saved(tmp_path, *clip_model())
    whole = build(tiny_config("visual=clip", f"visual.pretrained={folder}")["visual"])
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    again = build(tiny_config("visual=clip", f"visual.pretrained={folder}")["visual"])
    frames = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(again.backbone.net(frames), whole.backbone.net(frames))


@pytest.mark.parametrize("hub", ["false", "true"])
def test_absent_weights_say_what_to_download_and_where_to_put_it(
    hub: str, tiny_config: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    settings = ("visual.pretrained=someone/clip-large", f"visual.hub={hub}")
    with pytest.raises(UsageError) as error:
        build(tiny_config("visual=clip", *settings)["visual"])
    message = str(error.value)
    assert "\n" not in message and len(message) < 400
    assert "someone/clip-large" in message and "download the config.json and *.safetensors" in message
    assert ("hub=true" in message) == (hub == "false")
