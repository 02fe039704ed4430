"""The frozen config of a run, which is all that workers read, and what may change when it is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from mmattn.config.compose import Config
from mmattn.errors import UsageError, first_line
from mmattn.files import write_atomically
from mmattn.training.directory.names import CONFIG_FILE

# Keys that say where and how fast a run trains, not what it trains: they may change when it is resumed.
MACHINE = (
    *("launcher", "logger", "data.workers", "data.cache_gb", "data.isolated", "data.deadline_s"),
    *(f"trainer.{key}" for key in ("devices", "accelerator", "strategy", "threads", "save_every", "log_every")),
    *(f"trainer.{key}" for key in ("compile", "recompute", "shard", "checkpoints", "timeout_s", "pin_memory")),
    *("trainer.profile", "trainer.peak_tflops"),
)


def check_machine(changes: Sequence[str]) -> None:
    """Raises UsageError for a change of any key that is not in MACHINE."""
    for text in changes:
        key = text.lstrip("+").partition("=")[0]
        if not any(key == name or key.startswith(f"{name}.") for name in MACHINE):
            raise UsageError(
                f"resume= uses the run's own frozen config; leave out {text}. Only these keys may change: "
                + ", ".join(MACHINE)
            )


def on_other_machine(config: Config, composed: Config, changes: Sequence[str]) -> Config:
    """The frozen `config` of a run with `changes` of the machine, which `composed` has applied. See check_machine."""
    for key in (text.lstrip("+").partition("=")[0] for text in changes):
        part = "launcher" if key.startswith("launcher") else key  # with all its settings
        config = _put(config, part.split("."), composed)
    return config


def _put(config: Config, path: Sequence[str], other: Config) -> Config:
    """`config` with the value that `other` has at `path`."""
    first, *rest = path
    return {**config, first: _put(config[first], rest, other[first]) if rest else other[first]}


def write_config(run: Path, config: Config) -> None:
    """Replace the frozen config."""
    write_atomically(run / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode())


def read_config(run: Path) -> Config:
    """The frozen config. Raises UsageError when `run` is not a run directory."""
    try:
        config = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{run}: not a run directory (no readable {CONFIG_FILE})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{run / CONFIG_FILE}: not YAML ({first_line(error)})") from None
    if not isinstance(config, dict) or not {"data", "fusion", "trainer"} <= config.keys():
        raise UsageError(f"{run / CONFIG_FILE}: not the config of a run")
    return config
