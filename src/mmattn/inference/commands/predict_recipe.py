"""The recipe of a predict job: the settings and weights that its records depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE, expanded, is_address
from mmattn.inference.annotators import catalogue

_KEYS = (
    "model",
    "threshold",
    "windows",
    "span_step_s",
    "shots",
    "views",
    "modalities",
    "attention",
    "decoding",
    "precision",
    "compile",
)
_KEYS_IF_SET = ("hdr", "deinterlace")  # so that jobs begun before these keys existed can continue


def recipe_of(config: Config) -> Config:
    """The recipe of a command. Raises UsageError if a trained model or its prompts do not exist."""
    files = _weights(config)
    if config["run"] is not None:
        files.append(_model_file(config))
    if config["prompts"] is not None:
        files.append(expanded(str(config["prompts"])))
        if config["model"] == "pretrained" or not files[-1].is_file():
            why = "no such file" if config["model"] is None else "model=pretrained has its own tags"
            raise UsageError(f"prompts={config['prompts']}: {why}")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    more = {name: config[name] for name in _KEYS_IF_SET if config.get(name) is not None}
    if config["identity"] != "stat":
        more["identity"] = config["identity"]
    if config["model"] == "pretrained":
        more["annotators"] = catalogue.recipe(config["annotators"], config)
    return {"weights": digest.hexdigest(), **{name: config.get(name) for name in _KEYS}, **more}


def _weights(config: Config) -> list[Path]:
    """The files of the folder `weights` of annotators."""
    if config["model"] != "pretrained" or config["weights"] is None:
        return []
    return sorted(path for path in expanded(str(config["weights"])).iterdir() if path.is_file())


def _model_file(config: Config) -> Path:
    run = expanded(str(config["run"]))
    if is_address(run):
        raise UsageError(f"{run}: a checkpoint is a local file; download it first")
    file = run / MODEL_FILE if run.is_dir() else run
    if not file.is_file():
        hint = "; it holds no finished epoch" if run.is_dir() else ""
        raise UsageError(f"{file}: no such model{hint}; train one with: mmattn train run={run}")
    return file
