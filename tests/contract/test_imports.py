"""Who may import whom, as written in pyproject.toml; and what is really loaded: a contract reads only source."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A person waits for `mmattn --help` and for a typo's answer: neither may load torch.
LIGHT = ["mmattn", "mmattn.errors", "mmattn.config.compose", "mmattn.cli.main", "mmattn.progress"]
LOADED = "import sys; import {names}; print(*{{name.split('.')[0] for name in sys.modules}})"


def _loaded(*names: str) -> set[str]:
    command = [sys.executable, "-c", LOADED.format(names=", ".join(names))]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_starting_the_program_loads_nothing_heavy() -> None:
    assert not _loaded(*LIGHT) & {"torch", "av", "lightning", "wandb", "hydra", "numpy"}


def test_inference_loads_neither_lightning_nor_wandb() -> None:
    loaded = _loaded("mmattn.inference.commands.predict", "mmattn.inference.predictor.pipeline")
    assert "torch" in loaded
    assert not loaded & {"lightning", "wandb"}


def test_the_contracts_notice_a_broken_rule(tmp_path: Path) -> None:
    """On a copy: a contract that reads nothing would be kept for ever."""
    shutil.copytree(ROOT / "src" / "mmattn", tmp_path / "mmattn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    errors = tmp_path / "mmattn" / "errors.py"
    errors.write_text(f"{errors.read_text()}\nimport torch\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "mmattn.errors -> torch" in result.stdout
