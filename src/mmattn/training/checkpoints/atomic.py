"""Atomic training checkpoints: the last two are kept, and verified before they are loaded."""

from __future__ import annotations

import pickle
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from mmattn.errors import MmattnError, UsageError, first_line
from mmattn.files import beside
from mmattn.renamed import renamed
from mmattn.training.checkpoints.parts import damaged_part, read_rest, read_tensors, remove
from mmattn.training.checkpoints.states import WEIGHTS, whole_checkpoint
from mmattn.training.distributed.group import read_by_first

LAST = Path("checkpoints") / "last.ckpt"
FOREIGN = (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error)
BEFORE = LAST.with_name("before.ckpt")  # the checkpoint before LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, then renames; loading never executes code.

    `damaged_last`: LAST is damaged, so the first save replaces it instead of keeping it as BEFORE. `check`: raises
    where this process may not change the checkpoints any more; it is called before each change.
    """

    def __init__(self, damaged_last: bool = False, check: Callable[[], None] = lambda: None) -> None:
        self._damaged_last = damaged_last
        self._check = check

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with beside(path) as part:
                with part.open("wb") as file:  # a stream: a copy in memory would be as large as model and optimizer
                    torch.save(checkpoint, file)
                self._make_way(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            cause = error.__cause__ or error.__context__ or error
            raise MmattnError(f"{path}: the checkpoint cannot be written ({first_line(cause)})") from None

    def put(self, part: Path, path: Path) -> None:
        """Move the completely written folder `part` to `path`."""
        self._make_way(path)
        part.replace(path)

    def _make_way(self, path: Path) -> None:
        """Keep what is at `path` as BEFORE, unless it is damaged."""
        self._check()
        if path.exists() and not self._damaged_last:
            remove(before := path.with_name(BEFORE.name))
            path.replace(before)
        remove(path)
        self._damaged_last = False

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Rank 0 reads the checkpoint for all processes."""
        return read_by_first(lambda: self.read(Path(path)))

    def read(self, path: Path) -> dict[str, Any]:
        """Read a checkpoint of either kind in this process, on the CPU. Raises UsageError."""
        try:
            if path.is_dir():
                return whole_checkpoint(read_rest(path), read_tensors(path))
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            return {**checkpoint, WEIGHTS: renamed(checkpoint[WEIGHTS])} if WEIGHTS in checkpoint else checkpoint
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise UsageError(f"{path}: damaged, or not a checkpoint ({first_line(error)})") from None


def newest_whole(run: Path) -> Path | None:
    """The last checkpoint of the run, or the one before when the last is damaged; None when there is none yet.

    Raises UsageError when there are checkpoints and all are damaged.
    """
    faults = []
    for path in (run / LAST, run / BEFORE):
        if not path.exists():
            continue
        if (fault := damage(path)) is None:
            if faults:
                print(f"{faults[0]}; continuing from the one before it, {path}", file=sys.stderr)
            return path
        faults.append(f"{path}: damaged, or not a checkpoint ({fault})")
    if faults:
        raise UsageError(f"{faults[0]}; there is no other checkpoint. Start a new run")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with the file or folder; None if every byte is as it was written.

    A checkpoint in one file is a zip archive, whose checksums torch itself does not verify.
    """
    try:
        if path.is_dir():
            return damaged_part(path, damage)
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, *FOREIGN) as error:
        return first_line(error)
    return f"checksum of {member}" if member else None
