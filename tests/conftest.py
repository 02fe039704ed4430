"""What every test gets: one torch thread, no network, no account; tiny vocabularies, configs, batches and models."""

from __future__ import annotations

import copy
import faulthandler
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import torch

from mmattn.config.compose import Config, build, compose
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.model import NO_TAGS, AVModel, build_model
from mmattn.types import Batch, Tokens
from warm import Popen, Source

SIZE, MELS, DIM, HEADS = 16, 12, 16, 2
TINY = (f"dim={DIM}", f"heads={HEADS}", f"data.clip.mels={MELS}", f"data.clip.height={SIZE}", f"data.clip.width={SIZE}")

_LAYERS = "hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2"
_VIT = f"{{{_LAYERS}, image_size: 32, patch_size: 16"
_SPEECH = (
    f"{{{_LAYERS}, "
    "conv_dim: [8, 8], conv_kernel: [40, 10], conv_stride: [20, 16], num_conv_pos_embeddings: 8, "
    "num_conv_pos_embedding_groups: 2, num_feat_extract_layers: 2}"
)
_PE = f"{_LAYERS}, head_dim: 8"
_BLOCK = "num_heads: 1, kernel_q: [3, 3, 3], kernel_kv: [3, 3, 3], stride_kv: [1, 2, 2]"
SMALL = {  # settings that make a large part small, whatever it is made for
    "visual=vit": (
        "architecture={patch_size: 16, num_layers: 2, num_heads: 2, hidden_dim: 16, mlp_dim: 32}",
        "size=32",
    ),
    "visual=resnet": ("name=resnet", "architecture={layers: [1, 1, 1, 1]}", "size=64"),
    "visual=swin3d": (
        "name=swin3d",
        "architecture={patch_size: [2, 4, 4], embed_dim: 8, depths: [1, 1], num_heads: [1, 2], window_size: [2, 2, 2]}",
        *("size=16", "window=4"),
    ),
    "visual=mvit": (
        "name=mvit",
        f"architecture={{block_setting: [{{input_channels: 8, output_channels: 8, stride_q: [1, 1, 1], {_BLOCK}}}, "
        f"{{input_channels: 8, output_channels: 16, stride_q: [1, 2, 2], {_BLOCK}}}], residual_pool: true, "
        "residual_with_cls_embed: false, rel_pos_embed: true, proj_after_attn: true}",
        *("size=32", "window=4"),
    ),
    "visual=r2plus1d": ("name=r2plus1d", "architecture={layers: [1, 1, 1, 1]}", "size=32", "window=8"),
    "visual=timm": ("name=test_vit", "size=32"),
    "visual=efficientnet_lite0": ("size=64",),
    "visual=clip": (f"architecture={_VIT}}}",),
    "visual=siglip": (f"architecture={_VIT}}}",),
    "visual=siglip2": (f"architecture={_VIT.replace('image_size: 32', 'num_patches: 4')}}}",),
    "visual=dinov3": (f"architecture={_VIT}, num_register_tokens: 2}}",),
    "visual=videomae": (f"architecture={_VIT}, num_frames: 4, tubelet_size: 2}}",),
    "visual=pe_video": (
        f"architecture={{{_PE}, vision_config: {{architecture: test_vit, num_classes: 16, global_pool: token, "
        "do_pooling: true, model_args: {img_size: 32}}}",
    ),
    "audio=ast": (
        f"architecture={{{_LAYERS}, num_mel_bins: 32, max_length: 96}}",
        "window_s=null",
    ),
    "audio=whisper": (
        "architecture={d_model: 16, encoder_layers: 2, encoder_attention_heads: 2, encoder_ffn_dim: 32, "
        "num_mel_bins: 16, max_source_positions: 16}",
        "window_s=null",
    ),
    "audio=clap": (
        "architecture={patch_embeds_hidden_size: 8, depths: [1, 1], num_attention_heads: [1, 2], hidden_size: 16}",
    ),
    "audio=wav2vec2": (f"architecture={_SPEECH}", "window_s=0.32"),
    "audio=torchaudio": (
        "name=wav2vec2",
        "architecture={extractor_mode: layer_norm, extractor_conv_layer_config: [[8, 40, 20], [8, 10, 16]], "
        "extractor_conv_bias: true, encoder_embed_dim: 16, encoder_projection_dropout: 0.0, "
        "encoder_pos_conv_kernel: 8, "
        "encoder_pos_conv_groups: 2, encoder_num_layers: 2, encoder_num_heads: 2, encoder_attention_dropout: 0.0, "
        "encoder_ff_interm_features: 32, encoder_ff_interm_dropout: 0.0, encoder_dropout: 0.0, "
        "encoder_layer_norm_first: true, encoder_layer_drop: 0.0}",
        "window_s=0.32",
    ),
    "audio=spectrogram": ("width=16", "layers=2", "heads=2", "patch=4"),
    "captions=hf": ("architecture={n_layer: 2, n_head: 2, n_embd: 16, n_positions: 64}",),
    "audio=pe_audio": (
        f"architecture={{{_PE}, dac_config: {{encoder_hidden_size: 4, downsampling_ratios: [2, 8, 10, 12], "
        "codebook_dim: 8, hidden_size: 64}}",
        "window_s=2.0",
    ),
}


CAPTIONS = ("a red dog barks", "rain on a roof", "two people talk", "a bell rings twice")


@pytest.fixture(scope="session", autouse=True)
def _alone() -> Iterator[None]:
    """Nothing outside this machine is reached, by the tests or by processes that they start (these see no account).

    Ctrl-C arrives, in them too, also where the tests are run by a shell in the background, which ignores it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.pop("HYDRA_FULL_ERROR", None)
    os.environ.pop("WANDB_API_KEY", None)
    os.environ["WANDB_MODE"] = "offline"
    connect = socket.socket.connect

    def local(self: socket.socket, address) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    socket.socket.connect = local  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A long proof, which has a limit of its own, is not ended by the one of all tests (faulthandler_timeout)."""
    if (limit := item.get_closest_marker("timeout")) and limit.args[0] > 600:
        faulthandler.dump_traceback_later(limit.args[0] + 300, exit=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """What is cleared away after a test that failed has no limit otherwise."""
    faulthandler.dump_traceback_later(300, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def warm_source() -> Iterator[Source]:
    with Source.started() as made:
        yield made


@pytest.fixture
def warm(warm_source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of Python that the test starts have imported already what most of them need."""
    monkeypatch.setattr(Popen, "source", warm_source, raising=False)
    monkeypatch.setattr(subprocess, "Popen", Popen)


@pytest.fixture(scope="session")
def vocabulary() -> TagVocabulary:
    """Two free tags and an exclusive group of three."""
    return TagVocabulary(("beep", "red", "word/a", "word/b", "word/c"), ((2, 3, 4),), {"beep": "audio", "red": "video"})


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    small = [f"++{text.partition('=')[0]}.{setting}" for text in overrides for setting in SMALL.get(text, ())]
    return compose("train", [*TINY, "data=folder", "data.root=.", *small, *overrides])


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """`tiny_config("fusion=late", "attention=dense")`: the train config with few channels, without dropout.

    Large parts are made small by SMALL.
    """
    return lambda *overrides: copy.deepcopy(_composed(("dropout=0.0", *overrides)))


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., Config], vocabulary: TagVocabulary) -> Callable[..., AVModel]:
    """`tiny_model("fusion=late")`, always with the same weights, in eval mode."""

    def made(*overrides: str) -> AVModel:
        torch.manual_seed(1)
        config = tiny_config(*overrides)
        known = TagVocabulary(()) if config["task"]["_target_"] == NO_TAGS else vocabulary
        tokenizer = build(config["captions"]["tokenizer"], captions=CAPTIONS) if config.get("captions") else None
        return build_model(config, known, tokenizer).eval()

    return made


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """`make_batch(clips, frames, rows, lengths=[...], missing={0: "audio"})`: random clips.

    `lengths`: for each clip the share that is real, the rest is padding; `rows` of spectrogram at 100 Hz, and as much
    of a waveform at `rate`.
    """

    def make(
        clips: int = 2,
        frames: int = 4,
        rows: int = 24,
        lengths: Sequence[float] | None = None,
        missing: dict[int, str] | None = None,
        seed: int = 0,
        rate: int = 16000,
    ) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        share = torch.tensor(list(lengths) if lengths is not None else [1.0] * clips)[:, None]
        frame_keep = torch.arange(frames) < share * frames
        row_keep = torch.arange(rows) < share * rows
        for clip, modality in (missing or {}).items():
            (frame_keep if modality == "video" else row_keep)[clip] = False
        return Batch(
            frames=torch.randint(0, 256, (clips, frames, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8),
            frame_keep=frame_keep,
            frame_times=((torch.arange(frames) + 0.5) / 8).expand(clips, -1).clone(),
            spectrogram=torch.randn(clips, rows, MELS, generator=generator),
            spectrogram_keep=row_keep,
            spectrogram_times=(torch.arange(rows) / 100).expand(clips, -1).clone(),
            waveform=torch.rand(clips, rows * rate // 100, generator=generator) - 0.5,
            waveform_keep=row_keep.repeat_interleave(rate // 100, dim=1),
            sample_rate=rate,
            ids=tuple(f"clip{i}" for i in range(clips)),
            targets={"tags": torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0]]).repeat((clips + 1) // 2, 1)[:clips]},
            captions=tuple((CAPTIONS[i % len(CAPTIONS)],) for i in range(clips)),
        )

    return make


@pytest.fixture(scope="session")
def make_tokens() -> Callable[..., Tokens]:
    """`make_tokens(clips, length, rate)`: random tokens, all real, `rate` of them a second."""

    def make(clips: int, length: int, rate: float = 25.0, seed: int = 0, dim: int = DIM) -> Tokens:
        values = torch.randn(clips, length, dim, generator=torch.Generator().manual_seed(seed))
        return Tokens(
            values, torch.ones(clips, length, dtype=torch.bool), (torch.arange(length) / rate).expand(clips, -1)
        )

    return make
