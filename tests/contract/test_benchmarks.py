"""The benchmark scripts run, as small as they can be: what they print is in docs/, and nobody else runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("warm")

FOLDER = Path(__file__).parents[2] / "scripts" / "benchmarks"
QUICK = {
    "synergy": ["2", "8", "late/dense"],
    "job_check": ["200"],
    "write_formats": ["200"],
}
LONG = {
    "augment": ["1"],
    "captions": ["--rounds", "1"],
    "isolate": [],
    "loader": [],
    "overhead": ["--rounds", "1"],
    "padding": [],
    "positions": [],
    "step": ["experiment=spoken_words"],
    "views": ["--rounds", "1", "--seconds", "3"],
    "weighting": ["fusion=late"],
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [*QUICK.items(), *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG.items())],
)
def test_it_runs_and_prints_figures(name: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert any(letter.isdigit() for letter in done.stdout)
