"""Weights of torchvision, timm and torchaudio from files: the library's own answers, and one line for what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchaudio
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from mmattn.config.compose import build
from mmattn.encoders.pretrained.torchvision.build import build_torchvision
from mmattn.encoders.pretrained.weights import load_into, read_tensors
from mmattn.errors import UsageError

SMALL_VIT = "{patch_size: 16, num_layers: 2, num_heads: 2, hidden_dim: 16, mlp_dim: 32}"


def _randomised(model: nn.Module) -> nn.Module:
    """Every weight and every batch statistic different from what a fresh model has."""
    torch.manual_seed(4)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_(0.1, 0.1)
    return model.eval()


def _frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _normalised(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return torchvision.transforms.functional.normalize(frames / 255, list(mean), list(std))


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINETICS = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("choice", "name", "size", "arguments"),
    [
        ("resnet", "resnet18", 64, {}),
        ("vit", "vit", 64, {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}),
    ],
)
def test_torchvisions_image_networks_say_what_torchvision_says(
    suffix: str, choice: str, name: str, size: int, arguments: dict[str, Any], tiny_config: Callable, tmp_path: Path
) -> None:
    sized = {"image_size": size, **arguments} if choice == "vit" else arguments
    theirs = _randomised(build_torchvision(name, sized, None, False))
    path = tmp_path / f"weights{suffix}"
    torch.save(theirs.state_dict(), path) if suffix == ".pth" else save_file(theirs.state_dict(), path)
    architecture = f"++visual.architecture={SMALL_VIT}" if arguments else "visual.architecture=null"
    ours = build(
        tiny_config(
            f"visual={choice}",
            f"visual.name={name}",
            f"visual.size={size}",
            architecture,
            f"visual.pretrained={path}",
            "visual.tokens=frame",
        )["visual"]
    ).eval()
    frames = _frames(2)
    head = theirs.heads if choice == "vit" else theirs.fc
    with torch.no_grad():
        says = head(ours.backbone.net(frames)[:, 0])
        torch.testing.assert_close(says, theirs(_normalised(frames, *IMAGENET)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("choice", "statistics", "window"),
    [("swin3d", IMAGENET, 4), ("mvit", ((0.45,) * 3, (0.225,) * 3), 4), ("r2plus1d", KINETICS, 8)],
)
def test_torchvisions_clip_networks_say_what_torchvision_says(
    choice: str, statistics: tuple, window: int, tiny_config: Callable, tmp_path: Path
) -> None:
    config = tiny_config(f"visual={choice}")["visual"]
    arguments = dict(config["architecture"])
    if choice == "mvit":
        arguments |= {"spatial_size": (config["size"],) * 2, "temporal_size": window}
    theirs = _randomised(build_torchvision(choice, arguments, None, False))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build({**config, "pretrained": str(tmp_path / "weights.pth")}).eval()
    frames = torch.nn.functional.interpolate(_frames(2 * window).float(), config["size"]).to(torch.uint8)
    taken: list[Tensor] = []
    inner = {"swin3d": "norm", "mvit": "norm", "r2plus1d": "layer4"}[choice]
    getattr(theirs, inner).register_forward_hook(lambda module, given, output: taken.append(output))
    clips = _normalised(frames, *statistics).unflatten(0, (2, window)).transpose(1, 2)
    with torch.no_grad():
        theirs(clips)
        read = ours.backbone.net(frames.unflatten(0, (2, window))).flatten(1, 2)
    wanted = {
        "swin3d": lambda x: x.flatten(1, 3),
        "mvit": lambda x: x[:, 1:],  # the first is its class token
        "r2plus1d": lambda x: x.flatten(2).mT,
    }[choice](taken[0])
    torch.testing.assert_close(read, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_vit2"])
def test_timms_backbones_say_what_timm_says(name: str, tiny_config: Callable, tmp_path: Path) -> None:
    """From a folder as timm shares its models, which names the architecture and how pictures are prepared."""
    arguments = {"img_size": 64} if "vit" in name else {}
    theirs: Any = _randomised(timm.create_model(name, num_classes=7, **arguments))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    prepared = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "input_size": [3, 64, 64], "interpolation": "bilinear"}
    described = {"architecture": name, "num_classes": 7, "pretrained_cfg": prepared, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(described))
    settings = ("visual=timm", f"visual.pretrained={tmp_path}", "visual.size=64")
    whole, places = (
        build(tiny_config(*settings, f"visual.tokens={kind}")["visual"]).eval() for kind in ("frame", "patch")
    )
    frames = _frames(2)
    pixels = _normalised(frames, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    with torch.no_grad():
        says = theirs.get_classifier()(whole.backbone.net(frames)[:, 0])
        torch.testing.assert_close(says, theirs(pixels), rtol=1e-4, atol=1e-4)
        features = theirs.forward_features(pixels)
        wanted = features[:, theirs.num_prefix_tokens :] if features.ndim == 3 else features.flatten(2).mT
        torch.testing.assert_close(places.backbone.net(frames), wanted, rtol=1e-4, atol=1e-4)
    assert whole.resolved["name"] == name and whole.backbone.net.pixels.interpolation == "bilinear"


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
@pytest.mark.parametrize("normalize", [False, True])
def test_torchaudios_networks_say_what_torchaudio_says(
    kind: str, normalize: bool, tiny_config: Callable, tmp_path: Path
) -> None:
    arguments = tiny_config("audio=torchaudio")["audio"]["architecture"]
    if kind == "wavlm":
        arguments |= {"encoder_num_buckets": 8, "encoder_max_distance": 16}
    theirs = getattr(torchaudio.models, f"{kind}_model")(**{"aux_num_out": 5, **arguments})
    theirs = _randomised(theirs)
    torch.save(theirs.state_dict(), tmp_path / "bundle.pth")
    config = tiny_config("audio=torchaudio", "audio.window_s=0.5", f"audio.normalize={normalize}")["audio"]
    weights = {"name": kind, "architecture": arguments, "pretrained": str(tmp_path / "bundle.pth")}
    ours = build({**config, **weights}).eval()
    sound = 0.3 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        read = ours.backbone.net(sound, torch.tensor([8000]))
        given = torch.nn.functional.layer_norm(sound, sound.shape) if normalize else sound
        theirs.aux = None
        wanted = theirs(given)[0]
    torch.testing.assert_close(read, wanted, rtol=1e-3, atol=1e-3)
    assert len(ours.times) == wanted.shape[1]


class _Opens:
    """What a hostile pickle does."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("broken-into",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": _Opens()}, "more than tensors"),
        ({"a": {"b": torch.zeros(1)}}, "expected named tensors"),
        ([torch.zeros(1)], "expected named tensors"),
    ],
)
def test_a_file_that_holds_more_than_tensors_is_not_read(
    content: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match=says):
        read_tensors(tmp_path / "weights.pth")
    assert not Path("broken-into").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_is_no_weights_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no weights at all, whatever the name says")
    with pytest.raises(UsageError) as error:
        read_tensors(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    tensors = nn.Linear(2, 3).state_dict()
    for changed, says in (
        ({"weight": tensors["weight"]}, "missing bias"),
        ({**tensors, "more": torch.zeros(1)}, "unexpected more"),
        ({**tensors, "weight": torch.zeros(4, 4)}, "does not fit"),
    ):
        with pytest.raises(UsageError, match=says):
            load_into(nn.Linear(2, 3), changed, tmp_path)
    load_into(nn.Linear(2, 3), {**tensors, "head.more": torch.zeros(1)}, tmp_path, dropped=("head.",))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("visual=resnet", "visual.name=resnet19"), "resnet18"),
        (("visual=timm", "visual.name=resnet18x"), "no such model"),
        (("visual=timm", "visual.name='hf-hub:someone/model'"), "no such model"),
        (("visual=timm", "++visual.architecture={checkpoint_path: /tmp/x}"), "not an argument of an architecture"),
        (("visual=swin3d", "visual.window=3"), "multiple of 2"),
        (("visual=mvit", "visual.name=mvit_v2_s", "visual.architecture=null", "visual.window=8"), "window=16"),
        (
            ("visual=resnet", "visual.name=resnet18", "visual.architecture=null", "visual.pretrained=DEFAULT"),
            "hub=true",
        ),
        (("audio=torchaudio", "audio.name=wav2vec3"), "wav2vec2_base"),
        (("audio=torchaudio", "audio.window_s=0.001"), "too few"),
        (("audio=torchaudio", "audio.hub=true", "audio.pretrained=WAV2VEC9"), "no such Wav2Vec2Bundle"),
        (("audio=yamnet", "audio.pretrained=nowhere"), "download yamnet.tflite"),
        (("audio=yamnet", "audio.pretrained=."), "neither"),
        (("visual=efficientnet_lite0", "visual.pretrained=nowhere.pth"), "no such file"),
    ],
)
def test_a_wrong_name_is_one_line_that_says_what_to_do(
    settings: tuple[str, ...], says: str, tiny_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(*settings)[settings[0].partition("=")[0]]
    with pytest.raises(UsageError, match=says) as error:
        build(config)
    assert "\n" not in str(error.value)
