"""A small generated set and a run trained on it, made once for the tests of whole programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmattn.cli.main import main
from mmattn.data.avshapes import make_avshapes

CLIPS = 24


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("avshapes")
    make_avshapes(root, CLIPS, 0, workers=1)
    return root


@pytest.fixture(scope="session")
def small(shapes: Path) -> list[str]:
    """Overrides of a model and a data set small enough for a test."""
    return [
        "data=avshapes",
        f"data.root={shapes}",
        f"data.clips={CLIPS}",
        "data.source.workers=1",
        "data.batch_size=8",
        "data.isolated=false",  # a decoding process takes seconds to start
        "dim=16",
        "heads=2",
        "fusion.layers=1",
        "visual.widths=[8,8,16]",
        "visual.blocks=1",
        "audio.blocks=1",
        "trainer.epochs=2",
        "trainer.validate_every=1",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
    ]


@pytest.fixture(scope="session")
def trained(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cross-fusion run, logged with wandb offline."""
    run = tmp_path_factory.mktemp("runs") / "cross"
    assert main(["train", *small, "fusion=cross", "logger=wandb", "trainer.log_every=1", f"run={run}"]) == 0
    return run
