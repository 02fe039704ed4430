"""A checkpoint as a folder: each process writes its tensors as safetensors, and everything else is in REST.

Loading never executes code; torch's own distributed format is a pickle.
"""

from __future__ import annotations

import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from mmattn.renamed import present_names, renamed
from mmattn.training.checkpoints.states import OPTIMIZERS

REST = "rest.ckpt"
SUFFIX = ".safetensors"
_CHUNK = 1 << 24  # bytes


def write_parts(folder: Path, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Write the checkpoint to the new `folder`, synced. Collective: every process has to call it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    first = distributed.get_rank() == 0
    if first:
        folder.mkdir(parents=True)
    distributed.barrier()
    save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    distributed.barrier()
    names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    own = {name: _digest(folder / name) for name in names[distributed.get_rank() :: distributed.get_world_size()]}
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, own)
    if first:
        files = {name: digest for part in found for name, digest in part.items()}
        with (folder / REST).open("wb") as file:
            torch.save({**rest, "files": files}, file)
            os.fsync(file.fileno())


def read_rest(folder: Path) -> dict[str, Any]:
    """Everything but the tensors."""
    rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
    rest = {name: value for name, value in rest.items() if name != "files"}
    for groups in rest.get(OPTIMIZERS, []):
        new = present_names([name for group in groups for name in group["params"]])
        for group in groups:
            group["params"] = [new[name] for name in group["params"]]
    return rest


def read_parts(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Load into `tensors`, which may be sharded over any number of processes. Collective."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    stored = {new: old for old, new in present_names(reader.read_metadata().state_dict_metadata).items()}
    load({stored.get(name, name): tensor for name, tensor in tensors.items()}, storage_reader=reader)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors, unsharded, in this process."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata.items()
    tensors = {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in known
        if isinstance(one, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # on purpose
        load(tensors, storage_reader=reader, no_dist=True)
    return renamed(tensors)


def damaged_part(folder: Path, damage: Callable[[Path], str | None]) -> str | None:
    """What is wrong with the folder; None if every byte is as it was written. `damage`: checks REST."""
    if fault := damage(folder / REST):
        return f"{REST}: {fault}"
    files = torch.load(folder / REST, map_location="cpu", weights_only=True)["files"]
    for name, digest in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"checksum of {name}"
    return None


def remove(path: Path) -> None:
    """Remove a checkpoint of either kind, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> list[int]:
    """[bytes, CRC-32]."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            crc = zlib.crc32(block, crc)
    return [path.stat().st_size, crc]
