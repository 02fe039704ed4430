"""Whole models of transformers with their processors, as the library itself loads them from a local folder.

No code of a model's own is run: its class is one that the caller names, and a config that names kernels, programs or
files elsewhere is refused.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmattn.encoders.pretrained.timm import UNSAFE
from mmattn.encoders.pretrained.transformers.library import quiet
from mmattn.encoders.pretrained.weights import first_line, read_json
from mmattn.errors import UsageError
from mmattn.files import expanded

FETCHED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


def folder_of(key: str, pretrained: str, hub: bool) -> Path:
    """The local folder that `key`=`pretrained` names; with `hub` a name is fetched. Raises UsageError."""
    folder = expanded(pretrained)
    if folder.is_dir():
        return folder
    if folder.exists() or not hub:
        raise UsageError(f"{key}={pretrained}: no such folder; or fetch a name of the hub with hub=true")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(pretrained, allow_patterns=FETCHED))
    except Exception as error:  # of the network and of the name, many kinds
        raise UsageError(f"{key}={pretrained}: could not be fetched ({first_line(error)[:150]})") from None


def load_whole(name: str, folder: Path, **settings: Any) -> Any:
    """The model of that class, to be asked and not trained. Raises UsageError."""
    check_config(folder)
    with quiet():
        try:
            make = getattr(importlib.import_module("transformers"), name)
            model, told = make.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **_LOCAL, **settings
            )
        except Exception as error:  # of a library that reads a folder somebody made, anything
            raise UsageError(f"{folder}: {first_line(error)}") from None
    if missing := sorted(told["missing_keys"]):
        raise UsageError(f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more of a {name}")
    return model.eval()


def load_processor(name: str, folder: Path) -> Any:
    """The processor, or part of one, of that class (Auto...: of whichever the folder has). Raises UsageError."""
    with quiet():
        try:
            return getattr(importlib.import_module("transformers"), name).from_pretrained(folder, **_LOCAL)
        except Exception as error:  # likewise
            raise UsageError(f"{folder}: its processor cannot be loaded ({first_line(error)})") from None


def check_config(folder: Path) -> None:
    """Raises UsageError for a config that would have something fetched or run."""
    for name, value in _items(read_json(folder / "config.json")):
        if name in _KERNELS and "/" in json.dumps(value):
            raise UsageError(f"{folder}: {name}={value} names a kernel from elsewhere; remove it from config.json")
        if name == "architecture" and not _is_timm(str(value)):
            raise UsageError(f"{folder}: timm has no model {value!r}")
        if name == "model_args" and (unsafe := [key for key in value or {} if key.startswith(UNSAFE)]):
            raise UsageError(f"{folder}: model_args.{unsafe[0]} names files of its own; remove it from config.json")


def _items(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        yield from part.items()
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _items(each)


def _is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)
