"""Checks folders with models of transformers before any model is loaded. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.files import expanded

Settings = Mapping[str, Any]
Kinds = Mapping[str, Sequence[str]]  # model_type: the modalities that it can use
LIBRARY = "transformers: pip install 'mmattn[encoders]'"


def how_to_get(name: str, folder: str, then: str) -> str:
    """How to download the model `name` of the hub, and what to set afterwards."""
    return f"a model: hf download {name} --local-dir weights/{folder}, then {then}"


def kind_of(folder: Path) -> str:
    """The model_type in the folder's config.json. Raises UsageError."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: has no config.json of a transformers model ({type(error).__name__})") from None


def check_kind(key: str, kind: str, kinds: Kinds, modalities: Sequence[str]) -> None:
    """Raise UsageError for a kind of model that is not supported, or that uses none of the modalities."""
    if kind not in kinds:
        raise UsageError(f"{key}: holds a {kind!r} model; expected {', '.join(kinds)}")
    if not set(kinds[kind]) & set(modalities):
        only = ", ".join(modalities)
        raise UsageError(f"{key}: a {kind} model needs the {kinds[kind][0]}, and modalities=[{only}] leaves that out")


def check_folder(annotator: str, pretrained: str, config: Settings, kinds: Kinds) -> None:
    """Raise UsageError unless `pretrained` is a folder with a supported model, or a name that may be fetched."""
    key, folder = f"{annotator}.pretrained={pretrained}", expanded(pretrained)
    if folder.is_dir():
        check_kind(key, kind_of(folder), kinds, config["modalities"])
    elif folder.exists() or not config["hub"]:
        raise UsageError(f"{key}: no such folder; for a name on the hub set hub=true to download it")
