"""Pretrained weights from a local file or folder, or from a hub if the user asks for it. No code is executed.

Tensors are read from safetensors, or from .pth files with PyTorch's reader that allows only tensors.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.errors import UsageError, first_line
from mmattn.files import expanded

_INDEX = "model.safetensors.index.json"
_PATTERNS = ["*.json", "*.safetensors"]


def locate(pretrained: str, hub: bool, wanted: str) -> Path:
    """The local file or folder `pretrained`. With `hub`, a name that is no path is downloaded from the model hub.

    `wanted`: what the error message asks the user to download. Raises UsageError.
    """
    path = expanded(str(pretrained))
    if path.exists():
        return path
    advice = f"download {wanted} and set pretrained= to its path"
    if not hub:
        raise UsageError(f"pretrained={pretrained}: no such file or folder; {advice}, or download a name with hub=true")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UsageError("hub=true needs huggingface_hub: pip install 'mmattn[encoders]'") from None
    try:
        return Path(snapshot_download(str(pretrained), allow_patterns=_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UsageError(
            f"pretrained={pretrained}: cannot be downloaded ({first_line(error)[:150]}); {advice}"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Raises UsageError unless the file holds a JSON object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: expected a JSON object")
    return record


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, or of a folder's model.safetensors with its shards. Raises UsageError."""
    if not path.is_dir():
        return _read_file(path)
    if (path / "model.safetensors").is_file():
        return _read_file(path / "model.safetensors")
    if (path / _INDEX).is_file():
        shards = set(read_json(path / _INDEX).get("weight_map", {}).values())
        if any(Path(str(name)).name != name for name in shards):
            raise UsageError(f"{path / _INDEX}: names files outside its folder")
        return {name: tensor for shard in sorted(shards) for name, tensor in _read_file(path / shard).items()}
    files = [file for file in sorted(path.iterdir()) if file.suffix in (".safetensors", ".pth")]
    if len(files) == 1:
        return _read_file(files[0])
    pickled = any(path.glob("*.bin"))
    hint = "; a .bin file may hold code and is not read: convert it to safetensors" if pickled else ""
    raise UsageError(f"{path}: no model.safetensors in this folder{hint}")


def _read_file(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(f"{path}: cannot read weights ({first_line(error)})") from None
    except pickle.UnpicklingError:
        raise UsageError(f"{path}: not read, because it holds more than tensors or is no file of weights") from None
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise UsageError(f"{path}: expected named tensors")
    return tensors


def load_into(net: nn.Module, tensors: dict[str, Tensor], source: Path, *, dropped: Sequence[str] = ()) -> None:
    """Load every tensor of `net` from `tensors`. Others are an error unless their names start with one of `dropped`.

    Raises UsageError that names `source`.
    """
    try:
        missing, unexpected = net.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        mismatch = str(error).strip().splitlines()[-1].strip()
        raise UsageError(f"{source}: does not fit this architecture ({mismatch})") from None
    unexpected = [name for name in unexpected if not name.startswith(tuple(dropped) or ("\0",))]
    if missing or unexpected:
        found = f"missing {missing[0]}" if missing else f"unexpected {unexpected[0]}"
        raise UsageError(f"{source}: weights of another architecture ({found})")
