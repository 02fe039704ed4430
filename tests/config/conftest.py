"""A folder of configs of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmattn.config.folders import CONFIG_DIR


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs that the user named."""
    folder = tmp_path / "my work"
    (folder / "fusion").mkdir(parents=True)
    monkeypatch.setenv(CONFIG_DIR, str(folder))
    return folder
