"""The run directory: one place for all that a run is. Its config.yaml is frozen; workers read nothing else."""

from __future__ import annotations

import json
import platform
import secrets
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from mmattn import __version__
from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_utf8, expanded, fresh_folder, write_atomically
from mmattn.process.openmp import cores
from mmattn.training.run.alone import alone
from mmattn.training.run.machine import describe_machine

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
UNREADABLE_FILE = "unreadable.jsonl"
SWEEP_FILE = "sweep.json"  # beside the runs of a sweep: name of a run -> its overrides
FINISHED_FILE = "finished.json"  # written when training has come to its end
# Where and how fast a run goes on, not what it is: these may change when it is resumed.
MACHINE = (
    *("launcher", "logger", "data.workers", "data.cache_gb", "data.isolated", "data.deadline_s"),
    *(f"trainer.{key}" for key in ("devices", "accelerator", "strategy", "threads", "save_every", "log_every")),
    *(f"trainer.{key}" for key in ("compile", "recompute", "shard", "checkpoints", "timeout_s", "pin_memory")),
    *("trainer.profile", "trainer.peak_tflops"),
)


def create_run(config: Config, weights: int | None = None) -> Path:
    """Make the run directory with frozen config and run.json. Raises UsageError when it is taken or not writable.

    `weights`: how many the model has.
    """
    name = config["fusion"]["_target_"].rpartition(".")[2]
    run = Path(str(config["run"] or "runs"))
    try:
        run = run if config["run"] else fresh_folder(_fresh_name(name))
        check_utf8(run).mkdir(parents=True, exist_ok=True)
        with alone(run):
            if (run / CONFIG_FILE).exists():
                raise UsageError(
                    f"{run}: holds a run already; go on with mmattn train resume={run}, or name another run="
                )
            _freeze(run, config, weights)
    except OSError as error:
        raise UsageError(f"{run}: cannot be written ({error.strerror})") from None
    return run


def _freeze(run: Path, config: Config, weights: int | None) -> None:
    config = {**config, "run": str(run), "data": _with_absolute_root(config["data"])}
    if config.get("init_from"):
        config["init_from"] = str(expanded(str(config["init_from"])).absolute())
    described = {"id": secrets.token_hex(4), "weights": weights, **describe_run()}
    write_atomically(run / RUN_FILE, json.dumps(described, indent=1).encode())
    write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode())


def check_machine(changes: Sequence[str]) -> None:
    """Raises UsageError for a change of anything but the machine."""
    for text in changes:
        key = text.lstrip("+").partition("=")[0]
        if not any(key == name or key.startswith(f"{name}.") for name in MACHINE):
            raise UsageError(
                f"resume goes on with the run's own frozen config; leave out {text}. Only the machine may be another: "
                + ", ".join(MACHINE)
            )


def on_other_machine(run: Path, composed: Config, changes: Sequence[str]) -> Config:
    """The frozen config of a run that goes on, with what `changes` say of the machine, which is frozen with it.

    `composed`: a config that they were applied to. See check_machine for what they may change.
    """
    config = before = read_config(run)
    for key in (text.lstrip("+").partition("=")[0] for text in changes):
        part = "launcher" if key.startswith("launcher") else key  # with all its settings
        config = _put(config, part.split("."), composed)
    if config != before:
        write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode())
    return config


def _put(config: Config, path: Sequence[str], other: Config) -> Config:
    """`config` with the value that `other` has at `path`."""
    first, *rest = path
    return {**config, first: _put(config[first], rest, other[first]) if rest else other[first]}


def run_id(run: Path) -> str | None:
    """By which other programs know the run however often it is resumed; None for one from before there were ids."""
    found = _described(run).get("id")
    return found if isinstance(found, str) and found.isalnum() else None


def weights_of(run: Path) -> int:
    """How many the run's model has; 0 where that is not known."""
    found = _described(run).get("weights")
    return found if isinstance(found, int) else 0


def _described(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _with_absolute_root(data: Config) -> Config:
    """So that the frozen config means the same from every directory."""
    absolute = str(expanded(data["root"]).absolute())
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
        "cores": cores(),
        "machine": describe_machine(),
        "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "packages": dict(sorted((d.metadata["Name"].lower(), d.version) for d in distributions())),
    }


def _fresh_name(fusion: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{fusion.removesuffix('Fusion').lower()}"


def _git(*arguments: str) -> str | None:
    """Of the code's own checkout, when it is one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
