"""The audio of a real file through mmattn and through each library's own pipeline: the same embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
import transformers
from real_file import composed, encoded, sound_of, write_real_file
from tiny_models import MODELS, saved
from torch import Tensor

from mmattn.config.compose import build
from mmattn.errors import UsageError
from mmattn.types import Tokens

CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real_file(tmp_path_factory.mktemp("file") / "clip.mp4")


def _from(folder: Path, name: str) -> Any:
    return MODELS[name]()[0].__class__.from_pretrained(folder).eval()


def _real(tokens: Tokens) -> Tensor:
    return tokens.values[0, tokens.keep[0]]


SOUNDS = {"audio=ast": 16000, "audio=whisper": 16000, "audio=clap": 48000, "audio=clap fused": 48000}
SOUNDS |= {name: 16000 for name in MODELS if name.startswith("audio=wav2vec2")} | {"audio=pe_audio": 48000}


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # of the library's own WavLM
@pytest.mark.parametrize("name", SOUNDS)
def test_sounds_are_heard_as_the_library_hears_them(name: str, file: Path, tmp_path: Path) -> None:
    model, processor = MODELS[name]()
    folder = saved(tmp_path, model, processor)
    choice, kind, *_ = [*name.split(), ""]
    settings = [f"audio.kind={kind}"] if kind in ("hubert", "wavlm") else []
    settings += ["audio.window_s=null"] if choice in ("audio=ast", "audio=whisper") else []
    _, _, tokens = encoded(composed(choice, f"audio.pretrained={folder}", *settings), "audio", file)
    heard, library = sound_of(file, SOUNDS[name]), _from(folder, name)
    prepared = processor(heard, sampling_rate=SOUNDS[name], return_tensors="pt")
    with torch.no_grad():
        theirs = THEIRS[choice.removeprefix("audio=")](library, prepared)[0]
    read = _real(tokens)
    shared = min(len(read), len(theirs))  # of the library's one window, as long as there is sound
    assert shared >= 5
    close = 1e-3 if choice == "audio=clap" else 1e-4  # the library of CLAP computes its decibels in float64
    torch.testing.assert_close(read[:shared], theirs[:shared], rtol=0, atol=close)
    if choice in ("audio=wav2vec2", "audio=pe_audio"):  # which give no tokens for what is behind the sound
        assert len(read) == len(theirs)


def _of_ast(model: Any, prepared: Any) -> Tensor:
    places = model.audio_spectrogram_transformer(**prepared).last_hidden_state[:, 2:]
    return places.unflatten(1, model.audio_spectrogram_transformer.embeddings.get_shape(model.config)).mean(dim=1)


def _of_clap(model: Any, prepared: Any) -> Tensor:
    prepared["is_longer"][:] = False  # which the processor sets at random
    return model.audio_model(**prepared).last_hidden_state.mean(dim=2).mT


THEIRS: dict[str, Callable[[Any, Any], Tensor]] = {
    "ast": _of_ast,
    "whisper": lambda model, prepared: model.model.encoder(**prepared).last_hidden_state,
    "clap": _of_clap,
    "wav2vec2": lambda model, prepared: model(**prepared).last_hidden_state,
    "pe_audio": lambda model, prepared: model.audio_encoder(**prepared).last_hidden_state,
}


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
@pytest.mark.parametrize("norm", ["group_norm", "layer_norm"])
def test_torchaudio_hears_a_sound_by_itself(kind: str, norm: str, file: Path, tmp_path: Path, tiny_config: Any) -> None:
    arguments = tiny_config("audio=torchaudio")["audio"]["architecture"] | {"extractor_mode": norm}
    arguments |= {"encoder_num_buckets": 8, "encoder_max_distance": 16} if kind == "wavlm" else {}
    theirs = getattr(torchaudio.models, f"{kind}_model")(**{"aux_num_out": None, **arguments}).eval()
    torch.save(theirs.state_dict(), tmp_path / "bundle.pth")
    config = composed("audio=torchaudio", "audio.normalize=false")
    weights = {"name": kind, "architecture": arguments, "pretrained": str(tmp_path / "bundle.pth")}
    _, _, tokens = encoded({**config, "audio": {**config["audio"], **weights}}, "audio", file)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(sound_of(file, 16000))[None])[0][0]
    torch.testing.assert_close(_real(tokens), wanted, **CLOSE)


@pytest.mark.parametrize(
    ("name", "wrong"), [("audio=whisper", {"dither": 0.1}), ("audio=ast", {"num_mel_bins": 64}),
                        ("audio=clap", {"padding": "repeat"}), ("audio=wav2vec2", {"sampling_rate": 8000})]
)  # fmt: skip
def test_a_front_end_that_is_not_ours_is_refused(name: str, wrong: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(tmp_path, *MODELS[name]())
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(UsageError, match=f"its processor has {next(iter(wrong))}="):
        build(composed(name, f"audio.pretrained={folder}")["audio"])


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
def test_layers_that_make_fewer_tokens_are_refused(kind: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, *MODELS["audio=wav2vec2" + " wavlm" * (kind == "wavlm")]())
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_adapter": True, "output_hidden_size": 16}))
    adapted = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder))
    adapted.save_pretrained(folder)
    with pytest.raises(UsageError, match=r"add_adapter=true is not supported.*set it to false"):
        build(composed("audio=wav2vec2", f"audio.kind={kind}", f"audio.pretrained={folder}")["audio"])


def test_a_patch_of_the_spectrogram_is_at_its_middle(tiny_config: Callable, make_batch: Callable) -> None:
    batch = make_batch(1, 2, 24)
    tokens = build(tiny_config("audio=spectrogram")["audio"])(batch)  # patches of 4 rows, every 10 ms
    assert tokens.times[0].unique().tolist() == pytest.approx([0.015 + 0.04 * k for k in range(6)])
