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
from small_models import CAPTIONS, SMALL
from warm import Popen, Source

SIZE, MELS, DIM, HEADS = 16, 12, 16, 2
TINY = (f"dim={DIM}", f"heads={HEADS}", f"data.clip.mels={MELS}", f"data.clip.height={SIZE}", f"data.clip.width={SIZE}")


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long proof without a limit of its own has two hours, beside whatever else the machine does."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(7200))


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
