"""Making a run directory: the frozen config and run.json, written once."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

import yaml

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_utf8, expanded, fresh_folder, write_atomically
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.directory.names import CONFIG_FILE, RUN_FILE
from mmattn.training.directory.record import describe_run


def create_run(config: Config, weights: int | None = None) -> Path:
    """Create the run directory with config.yaml and run.json. Raises UsageError when it is taken or not writable.

    `weights`: number of parameters of the model.
    """
    name = config["fusion"]["_target_"].rpartition(".")[2]
    run = Path(str(config["run"] or "runs"))
    try:
        run = run if config["run"] else fresh_folder(_fresh_name(name))
        check_utf8(run).mkdir(parents=True, exist_ok=True)
        with exclusive(run):
            if (run / CONFIG_FILE).exists():
                raise UsageError(
                    f"{run}: already holds a run; continue it with mmattn train resume={run}, or set another run="
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


def _with_absolute_root(data: Config) -> Config:
    """The frozen config must mean the same from every working directory."""
    absolute = str(expanded(data["root"]).absolute())
    return {**data, "root": absolute, "source": {**data["source"], "root": absolute}}


def _fresh_name(fusion: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{fusion.removesuffix('Fusion').lower()}"
