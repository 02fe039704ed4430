"""Which files a source names: one file, or every file below a directory, in a fixed order."""

from __future__ import annotations

import os
from pathlib import Path

from mmattn.checkpoint import is_address
from mmattn.errors import UsageError


def list_files(source: Path) -> list[Path]:
    """Raises UsageError when there is nothing. Hidden files and folders are left out; links to folders not followed."""
    if is_address(source):
        raise UsageError(f"{source}: sources are local files and directories; download it first")
    if not os.path.lexists(source):
        raise UsageError(f"{source}: no such file or directory")
    if not source.is_dir():
        return [source]
    files = [
        Path(folder) / name
        for folder, folders, names in os.walk(source)
        if _keep_visible(folders)
        for name in names
        if not name.startswith(".")
    ]
    if not files:
        raise UsageError(f"{source}: the directory holds no files")
    return sorted(files)


def _keep_visible(folders: list[str]) -> bool:
    """Prune hidden folders from os.walk, in place as it demands."""
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    return True
