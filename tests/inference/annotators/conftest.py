"""Tiny captioners and a film with cuts, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from caption_films import chirp
from omni_models import save_captioner

from mmattn.media.write.video import write_video


@pytest.fixture(scope="session")
def captioner_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_captioner(kind, tmp_path_factory.mktemp("models") / kind)
        return made[kind]

    return of


@pytest.fixture(scope="session")
def cut_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cuts at 3, 7, 12 and 14 of 26 s, across the 9.6 s at which windows meet; each shot a picture full of detail."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    stills = np.random.default_rng(4).integers(0, 255, (5, 64, 96, 3), dtype=np.uint8)
    lengths = (3, 4, 5, 2, 12)
    frames = np.concatenate([still[None].repeat(12 * s, 0) for still, s in zip(stills, lengths, strict=True)])
    write_video(path, frames, 12, chirp(26))
    return path
