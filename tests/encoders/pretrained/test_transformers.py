"""Encoders from folders as transformers saves them: its own processors and its own forward, on the same input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import MODELS, pe_audio_video, saved
from torch import Tensor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mmattn.checkpoint import Checkpoint, load_model, save_model
from mmattn.config.compose import build
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.encoders.interface import Encoder
from mmattn.model import build_model, resolved
from mmattn.types import Batch


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = saved(tmp_path_factory.mktemp("model"), *MODELS[name]())
        return made[name]

    return folder


@pytest.fixture
def encoder(tiny_config: Callable, folders: Callable[[str], Path]) -> Callable[..., Encoder]:
    """`encoder("audio=wav2vec2 hubert", "audio.window_s=1.0")`, from its folder, in eval mode."""

    def make(name: str, *settings: str) -> Encoder:
        choice, kind, *_ = [*name.split(), ""]
        group = choice.partition("=")[0]
        kinds = [f"{group}.kind={kind}"] if kind in ("hubert", "wavlm") else []
        config = tiny_config(choice, f"{group}.pretrained={folders(name)}", *kinds, *settings)
        return build(config[group]).eval()

    return make


def _frames(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def _sound(seconds: float, rate: int, seed: int = 0) -> Tensor:
    """A rising tone and noise, louder and softer."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(t), generator=generator)
    return 0.2 * torch.sin(2 * torch.pi * (300 + 400 * t) * t) * (1 + torch.sin(9 * t)) / 2 + 0.02 * noise


def _net(encoder: Encoder) -> Any:
    return encoder.backbone.net  # type: ignore[union-attr]


def _library(name: str, folder: Path) -> tuple[Any, Any]:
    """The library's own model and processor, loaded its own way."""
    model = MODELS[name]()[0].__class__.from_pretrained(folder).eval()
    kind = MODELS[name]()[1]
    return model, None if kind is None else type(kind).from_pretrained(folder)


@pytest.mark.parametrize("tokens", ["patch", "frame"])
@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2", "dinov3"])
def test_an_image_tower_says_what_the_library_says(
    name: str, tokens: str, encoder: Callable, folders: Callable[[str], Path]
) -> None:
    ours = encoder(f"visual={name}", f"visual.tokens={tokens}")
    model, processor = _library(f"visual={name}", folders(f"visual={name}"))
    frames = _frames(3)
    prepared = processor(images=list(frames), return_tensors="pt")
    with torch.no_grad():
        theirs = getattr(model, "vision_model", model)(**prepared)
        read = _net(ours)(frames)
    if name != "siglip2":
        torch.testing.assert_close(_net(ours).pixels(frames), prepared["pixel_values"], rtol=0, atol=1e-4)
    expected = theirs.pooler_output[:, None] if tokens == "frame" else theirs.last_hidden_state[:, -4:]
    torch.testing.assert_close(read, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov3"])
def test_frames_of_another_size_become_what_the_librarys_processor_makes_of_them(
    name: str, encoder: Callable, folders: Callable[[str], Path]
) -> None:
    frames = _frames(3, 75, 75)
    pixels = _net(encoder(f"visual={name}")).pixels
    processor = _library(f"visual={name}", folders(f"visual={name}"))[1]
    theirs = processor(images=list(frames), return_tensors="pt")["pixel_values"]
    one_level = 1 / 255 / float(pixels.std.min())  # it rounds in whole numbers
    assert float((pixels(frames) - theirs).abs().max()) < 1.01 * one_level
    assert float((pixels(frames) - theirs).abs().mean()) < 0.3 * one_level


def test_videomae_says_what_the_library_says(encoder: Callable, folders: Callable[[str], Path]) -> None:
    ours = encoder("visual=videomae")
    model, processor = _library("visual=videomae", folders("visual=videomae"))
    frames = _frames(8).view(2, 4, 3, 32, 32)
    prepared = processor([list(clip.numpy()) for clip in frames], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = model.videomae(prepared).last_hidden_state
        read = _net(ours)(frames)
    torch.testing.assert_close(read.flatten(1, 2), theirs, rtol=0, atol=1e-5)


def test_pe_video_says_what_the_library_says(encoder: Callable, folders: Callable[[str], Path]) -> None:
    ours, frames = encoder("visual=pe_video"), _frames(5)[None]
    model, _ = _library("visual=pe_video", folders("visual=pe_video"))
    keep = torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        theirs = model.video_encoder((frames / 255 - 0.5) / 0.5).last_hidden_state
        torch.testing.assert_close(_net(ours)(frames, keep), theirs, rtol=0, atol=1e-5)


def _heard(sound: Tensor, window: int) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.pad(sound, (0, window - len(sound)))[None], torch.tensor([len(sound)])


@pytest.mark.parametrize("seconds", [0.4, 0.64])
def test_ast_says_what_the_library_says(seconds: float, encoder: Callable, folders: Callable[[str], Path]) -> None:
    ours, sound = encoder("audio=ast", "audio.tokens=patch"), _sound(seconds, 16000)
    model, processor = _library("audio=ast", folders("audio=ast"))
    prepared = processor(sound.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    waveform, heard = _heard(sound, ours.window)
    with torch.no_grad():
        theirs = model.audio_spectrogram_transformer(prepared).last_hidden_state[:, 2:]
        read = _net(ours)(waveform, heard)
    torch.testing.assert_close(_net(ours).front_end(waveform, heard), prepared, rtol=0, atol=1e-4)
    in_time = theirs.unflatten(1, (_net(ours).bands, -1)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(read, in_time, rtol=0, atol=1e-4)


def test_whisper_says_what_the_library_says(encoder: Callable, folders: Callable[[str], Path]) -> None:
    ours, sound = encoder("audio=whisper"), _sound(2.3, 16000)
    model, processor = _library("audio=whisper", folders("audio=whisper"))
    prepared = processor(sound.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    waveform, heard = _heard(sound, ours.window)
    with torch.no_grad():
        theirs = model.model.encoder(prepared).last_hidden_state
        read = _net(ours)(waveform, heard)
    assert isinstance(_net(ours).model, WhisperEncoder)
    torch.testing.assert_close(_net(ours).front_end(waveform), prepared, rtol=0, atol=1e-4)
    torch.testing.assert_close(read, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["audio=clap", "audio=clap fused"])
@pytest.mark.parametrize("seconds", [3.3, 10.0])
def test_clap_says_what_the_library_says(
    name: str, seconds: float, encoder: Callable, folders: Callable[[str], Path]
) -> None:
    ours, sound = encoder(name), _sound(seconds, 48000)
    model, processor = _library(name, folders(name))
    prepared = processor(sound.numpy(), sampling_rate=48000, return_tensors="pt")
    prepared["is_longer"][:] = False  # which the processor sets at random
    waveform, heard = _heard(sound, ours.window)
    with torch.no_grad():
        theirs = model.audio_model(**prepared).last_hidden_state
        read = _net(ours)(waveform, heard)
    features = _net(ours).front_end(waveform, heard)
    misses = (features - prepared["input_features"][:, 0]).abs()  # dB; the library computes in float64
    assert float(misses.max()) < 0.03 and float(misses.mean()) < 1e-4
    torch.testing.assert_close(read, theirs.mean(dim=2).mT, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # of the library's own WavLM
@pytest.mark.parametrize("name", ["audio=wav2vec2", "audio=wav2vec2 hubert", "audio=wav2vec2 wavlm"])
@pytest.mark.parametrize("seconds", [1.0, 0.7])
def test_speech_networks_say_what_the_library_says(
    name: str, seconds: float, encoder: Callable, folders: Callable[[str], Path]
) -> None:
    ours, sound = encoder(name, "audio.window_s=1.0"), _sound(seconds, 16000)
    model, processor = _library(name, folders(name))
    prepared = processor(sound.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    waveform, heard = _heard(sound, ours.window)
    with torch.no_grad():
        theirs = model(prepared).last_hidden_state
        read = _net(ours)(waveform, heard)
    given = _net(ours).front_end(waveform, heard)
    torch.testing.assert_close(given[:, : len(sound)], prepared, rtol=0, atol=1e-4)
    assert not given[:, len(sound) :].any()
    torch.testing.assert_close(read[:, : theirs.shape[1]], theirs, rtol=0, atol=1e-4)


def test_pe_audio_says_what_the_library_says(encoder: Callable, folders: Callable[[str], Path]) -> None:
    ours, sound = encoder("audio=pe_audio", "audio.window_s=0.8"), _sound(0.8, 48000)
    model, processor = _library("audio=pe_audio", folders("audio=pe_audio"))
    prepared = processor(sound.numpy(), sampling_rate=48000, return_tensors="pt")
    with torch.no_grad():
        theirs = model.audio_encoder(**prepared).last_hidden_state
        read = _net(ours)(*_heard(sound, ours.window))
    torch.testing.assert_close(read, theirs, rtol=0, atol=1e-4)


def test_pe_avs_towers_are_found_in_the_whole_model(tmp_path: Path, tiny_config: Callable) -> None:
    folder = saved(tmp_path, *pe_audio_video())
    whole = transformers.PeAudioVideoModel.from_pretrained(folder).eval()
    video, audio = (
        build(tiny_config(f"{group}=pe_{part}", f"{group}.pretrained={folder}")[group]).backbone.net.model
        for group, part in (("visual", "video"), ("audio", "audio"))
    )
    towers = whole.audio_video_encoder.embedder
    for ours, theirs in ((video, towers.video_encoder), (audio, towers.audio_encoder)):
        wanted = theirs.state_dict()
        assert ours.state_dict().keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("name", list(MODELS))
def test_a_checkpoint_needs_the_folder_no_more(
    name: str,
    encoder: Callable,
    tiny_config: Callable,
    folders: Callable[[str], Path],
    vocabulary: TagVocabulary,
    make_batch: Callable,
    tmp_path: Path,
) -> None:
    choice, kind, *_ = [*name.split(), ""]
    group, folder = choice.partition("=")[0], folders(name)
    kinds = [f"{group}.kind={kind}"] if kind in ("hubert", "wavlm") else []
    shorter = ["audio.window_s=0.5"] if choice in ("audio=ast", "audio=whisper") else []
    config = tiny_config(choice, f"{group}.pretrained={folder}", "fusion=late", *kinds, *shorter)
    model = build_model(config, vocabulary).eval()
    batch: Batch = make_batch(2, 4, 64, rate=config["data"]["clip"]["sample_rate"])
    frozen = resolved(config, model)
    assert json.loads(json.dumps(frozen)) == frozen, "fit for a config file"
    save_model(tmp_path / "model.safetensors", Checkpoint(model, config, vocabulary, ClipSpec(), {}))
    away = folder.rename(folder.with_name(folder.name + "-away"))
    try:
        loaded = load_model(tmp_path)
    finally:
        away.rename(folder)
    assert str(folder) not in json.dumps(loaded.config)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(batch), model(batch), rtol=0, atol=0)


def test_fewer_seconds_heard_at_once_are_the_first_positions(encoder: Callable) -> None:
    whole, part = encoder("audio=whisper"), encoder("audio=whisper", "audio.window_s=0.5")
    assert part.window == 8000 and len(part.times) == 25
    places = _net(whole).model.embed_positions.weight[:25]
    assert torch.equal(_net(part).model.embed_positions.weight, places)
    whole, part = encoder("audio=ast"), encoder("audio=ast", "audio.window_s=0.36")
    assert len(whole.times) == 5 and len(part.times) == 3
    places = _net(whole).model.embeddings.position_embeddings[:, 2:].unflatten(1, (2, 5))[:, :, :3].flatten(1, 2)
    assert torch.equal(_net(part).model.embeddings.position_embeddings[:, 2:], places)


def test_the_front_end_stays_in_float32_under_autocast(encoder: Callable) -> None:
    frames, sound = _frames(2), _sound(0.6, 16000)
    clip, ast = encoder("visual=clip"), encoder("audio=ast")
    with torch.autocast("cpu", torch.bfloat16):
        pixels, read = _net(clip).pixels(frames), _net(clip)(frames)
        bands = _net(ast).front_end(*_heard(sound, ast.window))
    assert pixels.dtype == bands.dtype == torch.float32
    assert torch.equal(pixels, _net(clip).pixels(frames))
    assert torch.equal(bands, _net(ast).front_end(*_heard(sound, ast.window)))
    torch.testing.assert_close(read.float(), _net(clip)(frames), rtol=0, atol=0.2)


def test_front_ends_agree_with_float64(tiny_config: Callable) -> None:
    """Kaldi's bands of a batch are those of each sound by itself, to float32's precision."""
    from torchaudio.compliance.kaldi import fbank

    from mmattn.encoders.pretrained.transformers.ast import KaldiFilterBanks

    front_end = KaldiFilterBanks(128, 98, mean=0.0, std=0.5)
    sounds = torch.stack([_sound(1.0, 16000, seed) for seed in range(3)])
    for sound, bands in zip(sounds, front_end(sounds, torch.full((3,), 16000)), strict=True):
        wanted = fbank(sound[None].double(), window_type="hanning", num_mel_bins=128)
        assert float((bands - wanted).abs().max()) < 2e-3
        assert np.isclose(float(bands.mean()), float(wanted.mean()), atol=1e-5)
