"""What every test gets: one torch thread, no network, no account; tiny vocabularies, configs, batches and models."""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import torch

from mmattn.config import Config, compose
from mmattn.data.labels import TagVocabulary
from mmattn.model import AVModel, build_model
from mmattn.types import Batch, Tokens

SIZE, MELS, DIM, HEADS = 16, 12, 16, 2
TINY = (f"dim={DIM}", f"heads={HEADS}", f"data.clip.mels={MELS}", f"data.clip.height={SIZE}", f"data.clip.width={SIZE}")


@pytest.fixture(scope="session", autouse=True)
def _alone() -> Iterator[None]:
    """Nothing outside this machine is reached, by the tests or by processes that they start (these see no account)."""
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


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def vocabulary() -> TagVocabulary:
    """Two free tags and an exclusive group of three."""
    return TagVocabulary(("beep", "red", "word/a", "word/b", "word/c"), ((2, 3, 4),), {"beep": "audio", "red": "video"})


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    return compose("train", [*TINY, "data=folder", "data.root=.", *overrides])


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """`tiny_config("fusion=late", "attention=dense")`: the train config with few channels, without dropout."""
    return lambda *overrides: copy.deepcopy(_composed(("dropout=0.0", *overrides)))


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., Config], vocabulary: TagVocabulary) -> Callable[..., AVModel]:
    """`tiny_model("fusion=late")`, always with the same weights, in eval mode."""

    def build(*overrides: str) -> AVModel:
        torch.manual_seed(1)
        return build_model(tiny_config(*overrides), vocabulary).eval()

    return build


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """`make_batch(clips, frames, rows, lengths=[...], missing={0: "audio"})`: random clips.

    `lengths`: for each clip the share that is real, the rest is padding; `rows` of spectrogram at 100 Hz.
    """

    def make(
        clips: int = 2,
        frames: int = 4,
        rows: int = 24,
        lengths: Sequence[float] | None = None,
        missing: dict[int, str] | None = None,
        seed: int = 0,
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
            ids=tuple(f"clip{i}" for i in range(clips)),
            targets={"tags": torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0]]).repeat((clips + 1) // 2, 1)[:clips]},
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
