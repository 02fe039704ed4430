"""Sources of clips: a folder of your own, or the generated data set. A source returns rows."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mmattn.data.manifest.checked import readable
from mmattn.data.manifest.columns import SPLIT_NAMES, label_of
from mmattn.data.manifest.rows import MANIFEST_NAMES, Row, read_manifest
from mmattn.data.manifest.walk import files_below, summary_of, why_left_out
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.progress import Progress


class Source(ABC):
    """A data set. `rows` may generate files first; it never changes other files.

    `bundles`: its media are bundles in shards (see media.write.bundle), not media files.
    """

    bundles: ClassVar[bool] = False

    @abstractmethod
    def rows(self) -> list[Row]:
        """Every clip, each with a split. Raises UsageError if there are none."""


@dataclass(frozen=True)
class FolderSource(Source):
    """`root` with a manifest (manifest.jsonl, .parquet or .csv, or the one named), or with one folder a class.

    Rows without a split get one from a hash of their id: the same when files are added or removed.
    """

    root: str
    manifest: str | None = None
    val_fraction: float = 0.2
    checked: str | None = None  # a check.jsonl; rows of files that it found unreadable are left out

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
    """`val` for about this fraction of keys, independent of other keys; else `train`."""
    digest = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return "val" if digest / 2**64 < fraction else "train"


def check_classes(root: Path) -> None:
    """Raises UsageError for a folder with neither a manifest nor a folder that could be a class. Lists only `root`."""
    if not any((root / name).is_file() for name in MANIFEST_NAMES) and not _folders(root, Counter()):
        raise _no_classes(root)


def _class_folders(root: Path) -> list[Row]:
    """A clip for each file of each class folder; if all folders are named like splits, they contain the class folders.

    Prints what is left out (see walk) and which folders have no media.
    """
    skipped: Counter[str] = Counter()
    folders = _folders(root, skipped)
    split_of = {folder: SPLIT_NAMES.get(folder.name.casefold()) for folder in folders}
    if not folders or None in split_of.values():  # `train` beside `car` and `bus` is a class
        classes = [(folder, None) for folder in folders]
    else:
        train = "train" if "val" in split_of.values() else None  # no val folder: part of train is held out
        splits = {top: train if split == "train" else split for top, split in split_of.items()}
        classes = [(folder, split) for top, split in splits.items() for folder in _folders(top, skipped)]
    rows: list[Row] = []
    empty: list[str] = []
    for folder, split in classes:
        files = [path for path in files_below(folder, skipped) if _is_file(path, skipped)]
        empty += [] if files else [str(folder.relative_to(root))]
        tags = (label_of(folder.name),)
        rows += [Row(id=str(path.relative_to(root)), path=path, tags=tags, split=split) for path in files]
    if not rows:
        raise _no_classes(root)
    notes = [f"left out {summary_of(skipped)}"] * bool(skipped) + [f"no media in {', '.join(empty[:5])}"] * bool(empty)
    if notes:
        print(f"{root}: {'; '.join(notes)}", file=sys.stderr)
    return rows


def _folders(path: Path, skipped: Counter[str]) -> list[Path]:
    """The folders in a folder that are read. Files beside them are counted as skipped."""
    folders = []
    for each in sorted(path.iterdir()):
        if why := why_left_out(each.name, each.is_dir()) or (None if each.is_dir() else "in no class folder"):
            skipped[why] += 1
        else:
            folders.append(each)
    return folders


def _is_file(path: Path, skipped: Counter[str]) -> bool:
    if not path.is_file():
        skipped["no regular file"] += 1
    return path.is_file()


def _no_classes(root: Path) -> UsageError:
    expected = f"expected {' or '.join(MANIFEST_NAMES)}, or one folder of files a class"
    skipped: Counter[str] = Counter()
    loose = files_below(root, skipped)
    if not loose:
        nothing = f"no media in it (left out: {summary_of(skipped)})" if skipped else "empty"
        return UsageError(f"{root}: {nothing}; {expected}")
    found = f"{len(loose)} files but no class folder" if len(loose) > 1 else f"only the file {loose[0].name!r}"
    return UsageError(f"{root}: {found}; {expected}: move each file to {root / 'CLASS'}, or list them in a manifest")


@dataclass(frozen=True)
class AVShapesSource(Source):
    """The generated data set, rendered into `root` on first use."""

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
