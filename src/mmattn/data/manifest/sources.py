"""Where the clips of a data set come from: a folder of your own, or the generated set. A source yields rows."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mmattn.data.check.checked import readable
from mmattn.data.manifest.rows import MANIFEST_NAMES, Row, read_manifest
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.progress import Progress

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Source(ABC):
    """A data set. `rows` may write files first (a generated set); it never touches files that are not its own.

    `bundles`: its media are those of shards, not files as people have them.
    """

    bundles: ClassVar[bool] = False

    @abstractmethod
    def rows(self) -> list[Row]:
        """Every clip, each with a split. Raises UsageError when there is nothing to read."""


@dataclass(frozen=True)
class FolderSource(Source):
    """`root` with a manifest (manifest.jsonl, .parquet or .csv, or the one named), or with one folder a class.

    Rows without a split get one from a hash of their id: stable when files are added or removed.
    """

    root: str
    manifest: str | None = None
    val_fraction: float = 0.2
    checked: str | None = None  # a check.jsonl; rows whose file it found unreadable are left out

    def rows(self) -> list[Row]:
        root = expanded(self.root)
        if not root.exists():
            raise UsageError(f"{root}: no such directory; set data.root=DIR to your videos")
        if not root.is_dir():
            raise UsageError(f"{root}: not a directory; data.root is a folder with a manifest or one folder a class")
        names = [self.manifest] if self.manifest else MANIFEST_NAMES
        found = [root / name for name in names if (root / name).is_file()]
        if self.manifest and not found:
            raise UsageError(f"{root / self.manifest}: no such manifest")
        rows = read_manifest(found[0]) if found else _class_folders(root)
        rows = [row if row.split else replace(row, split=held_out(row.id, self.val_fraction)) for row in rows]
        return readable(rows, expanded(self.checked)) if self.checked else rows


def held_out(key: str, fraction: float) -> str:
    """`val` for about that fraction of all keys, the same ones whatever others there are; else `train`."""
    digest = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return "val" if digest / 2**64 < fraction else "train"


def _class_folders(root: Path) -> list[Row]:
    """A clip for each file of each class folder; folders that are all named as splits hold the class folders."""
    folders = _folders(root)
    split_of = {folder: _SPLIT_FOLDERS.get(folder.name.casefold()) for folder in folders}
    if not folders or None in split_of.values():  # `train` beside `car` and `bus` is a class
        classes = [(folder, None) for folder in folders]
    else:
        train = "train" if "val" in split_of.values() else None  # no val folder: part of train is held out
        splits = {top: train if split == "train" else split for top, split in split_of.items()}
        classes = [(folder, split) for top, split in splits.items() for folder in _folders(top)]
    rows = [
        Row(id=str(path.relative_to(root)), path=path, tags=(folder.name,), split=split)
        for folder, split in classes
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    if not rows:
        expected = f"expected {' or '.join(MANIFEST_NAMES)}, or one folder of files a class"
        loose = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        if not loose:
            raise UsageError(f"{root}: empty; {expected}")
        said = f"{len(loose)} files but no class folder" if len(loose) > 1 else f"only the file {loose[0].name!r}"
        raise UsageError(f"{root}: {said}; {expected}: move each file to {root / 'CLASS'}, or list them in a manifest")
    return rows


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


@dataclass(frozen=True)
class AVShapesSource(Source):
    """The generated set, rendered into `root` on first use and reused after."""

    root: str
    clips: int
    seed: int
    workers: int = 2

    def rows(self) -> list[Row]:
        from mmattn.data.avshapes import make_avshapes

        with Progress("rendering AVShapes", self.clips) as progress:
            manifest = make_avshapes(
                Path(self.root), self.clips, self.seed, self.workers, lambda done, total: progress.at(done)
            )
        return read_manifest(manifest)
