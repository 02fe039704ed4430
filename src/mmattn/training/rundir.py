"""The run directory: one place for all that a run is. Its config.yaml is frozen; workers read nothing else."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from mmattn import __version__
from mmattn.config import Config
from mmattn.errors import UsageError
from mmattn.files import write_atomically

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
UNREADABLE_FILE = "unreadable.jsonl"


def create_run(config: Config) -> Path:
    """Make the run directory with frozen config and run.json. Raises UsageError when it is taken or not writable."""
    run = Path(str(config["run"] or "") or _fresh_name(config["fusion"]["_target_"].rpartition(".")[2]))
    if (run / CONFIG_FILE).exists():
        raise UsageError(f"{run}: holds a run already; go on with mmattn train resume={run}, or name another run=")
    config = {**config, "run": str(run), "data": _with_absolute_root(config["data"])}
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(run / RUN_FILE, json.dumps(describe_run(), indent=1).encode())
        write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode())
    except OSError as error:
        raise UsageError(f"{run}: cannot be written ({error.strerror})") from None
    return run


def _with_absolute_root(data: Config) -> Config:
    """So that the frozen config means the same from every directory."""
    absolute = str(Path(data["root"]).expanduser().absolute())
    return {**data, "root": absolute, "source": {**data["source"], "root": absolute}}


def read_config(run: Path) -> Config:
    """The frozen config. Raises UsageError when `run` is not a run directory."""
    try:
        config = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{run}: not a run directory (no readable {CONFIG_FILE})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{run / CONFIG_FILE}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(config, dict) or not {"data", "fusion", "trainer"} <= config.keys():
        raise UsageError(f"{run / CONFIG_FILE}: not the config of a run")
    return config


def describe_run() -> dict[str, Any]:
    """What made this run: code, packages, FFmpeg, machine. It names no environment variable, so it holds no secrets."""
    import av

    commit = _git("rev-parse", "HEAD")
    return {
        "mmattn": __version__,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": commit,
        "git_dirty": bool(_git("status", "--porcelain")) if commit else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "packages": dict(sorted((d.metadata["Name"].lower(), d.version) for d in distributions())),
    }


def _fresh_name(fusion: str) -> str:
    return str(Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{fusion.removesuffix('Fusion').lower()}")


def _git(*arguments: str) -> str | None:
    """Of the code's own checkout, when it is one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
