"""Models and processors of transformers from a local folder, loaded by the library's own from_pretrained.

No code of a model's own runs: the caller names the class, and a config that names kernels, code or other files is an
error.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmattn.encoders.pretrained.timm import UNSAFE
from mmattn.encoders.pretrained.transformers.build import check_none_missing
from mmattn.encoders.pretrained.transformers.library import quiet
from mmattn.encoders.pretrained.weights import read_json
from mmattn.errors import UsageError, first_line
from mmattn.files import expanded

_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


def folder_of(key: str, pretrained: str, hub: bool) -> Path:
    """The local folder that `key`=`pretrained` names; with `hub`, a name is downloaded. Raises UsageError."""
    folder = expanded(pretrained)
    if folder.is_dir():
        return folder
    if folder.exists() or not hub:
        raise UsageError(f"{key}={pretrained}: no such folder; for a name on the hub set hub=true to download it")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(pretrained, allow_patterns=_PATTERNS))
    except Exception as error:  # many classes, for the network and for the name
        raise UsageError(f"{key}={pretrained}: cannot be downloaded ({first_line(error)[:150]})") from None


def load_whole(name: str, folder: Path, **settings: Any) -> Any:
    """The model of the class `name`, in eval mode. Raises UsageError."""
    check_config(folder)
    with quiet():
        try:
            model, info = getattr(importlib.import_module("transformers"), name).from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **_LOCAL, **settings
            )
        except Exception as error:  # a damaged folder may raise anything
            raise UsageError(f"{folder}: {first_line(error)}") from None
    check_none_missing(sorted(info["missing_keys"]), folder, name)
    return model.eval()


def load_processor(name: str, folder: Path) -> Any:
    """The processor (or a part of one) of the class `name`; Auto... takes the folder's class. Raises UsageError."""
    with quiet():
        try:
            return getattr(importlib.import_module("transformers"), name).from_pretrained(folder, **_LOCAL)
        except Exception as error:  # a damaged folder may raise anything
            raise UsageError(f"{folder}: cannot load its processor ({first_line(error)})") from None


def check_config(folder: Path) -> None:
    """Raises UsageError for a config that would download or run something."""
    for name, value in _items(read_json(folder / "config.json")):
        if name in _KERNELS and "/" in json.dumps(value):
            raise UsageError(f"{folder}: {name}={value} would download a kernel; remove it from config.json")
        if name == "architecture" and not _is_timm(str(value)):
            raise UsageError(f"{folder}: timm has no model {value!r}")
        if name == "model_args" and (unsafe := [key for key in value or {} if key.startswith(UNSAFE)]):
            raise UsageError(f"{folder}: model_args.{unsafe[0]} would read other files; remove it from config.json")


def _items(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        yield from part.items()
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _items(each)


def _is_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)
