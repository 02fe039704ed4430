"""run.json: the code, packages and machine that made a run, and its id."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mmattn import __version__
from mmattn.process.openmp import cores
from mmattn.training.directory.machine import describe_machine
from mmattn.training.directory.names import RUN_FILE


def run_id(run: Path) -> str | None:
    """The id of the run in wandb and the like, the same after every resume; None for a run older than ids."""
    found = _described(run).get("id")
    return found if isinstance(found, str) and found.isalnum() else None


def weights_of(run: Path) -> int:
    """The number of parameters of the run's model; 0 where it is not known."""
    found = _described(run).get("weights")
    return found if isinstance(found, int) else 0


def _described(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def describe_run() -> dict[str, Any]:
    """Code, packages, FFmpeg and machine of this process. No environment variables, so no secrets."""
    import av

    commit = _git("rev-parse", "HEAD")
    return {
        "mmattn": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": commit,
        "git_dirty": bool(_git("status", "--porcelain")) if commit else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cores(),
        "machine": describe_machine(),
        "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "packages": dict(sorted((d.metadata["Name"].lower(), d.version) for d in distributions())),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout of this code; None where it is not a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
