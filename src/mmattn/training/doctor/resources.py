"""Disk, shared memory and open files."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmattn.training.doctor.finding import MachineFinding

OPEN_FILES = 1024


def disk(folder: Path, wanted_gb: float) -> Iterator[MachineFinding]:
    """`folder` is writable, with enough space."""
    place = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        yield MachineFinding(
            "problem", "disk", f"{place} may not be written to", f"chmod u+w {place}, or run=DIR elsewhere"
        )
    elif free < wanted_gb:
        fix = "delete old runs' checkpoints/ (model.safetensors is enough to predict), or run=DIR on another disk"
        yield MachineFinding("problem", "disk", f"{free:.1f} GB free at {place}, {wanted_gb:g} wanted", fix)
    else:
        yield MachineFinding("ok", "disk", f"{free:.0f} GB free at {place}")


def shared_memory(place: Path, wanted_gb: float) -> Iterator[MachineFinding]:
    """`place` is large enough for the batches of loader processes."""
    if not place.is_dir():
        yield MachineFinding("note", "shared mem", f"no {place}; loader processes may fail: data.workers=0")
        return
    size = shutil.disk_usage(place).total / 2**30
    if size < wanted_gb:
        fix = "in a container: --shm-size=8g (or --ipc=host); else data.workers=0"
        yield MachineFinding("problem", "shared mem", f"{size:.2f} GB at {place}, {wanted_gb:g} wanted", fix)
    else:
        yield MachineFinding("ok", "shared mem", f"{size:.1f} GB at {place}")


def open_files() -> Iterator[MachineFinding]:
    """Enough files may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < OPEN_FILES:
        raised = min(65536, hard) if hard > 0 else 65536
        yield MachineFinding("problem", "open files", f"{soft} at once, {OPEN_FILES} wanted", f"ulimit -n {raised}")
    else:
        yield MachineFinding("ok", "open files", f"{soft} at once")
