"""Which files of a folder may be media: one rule for training, prediction, checks and the adapters of public sets.

Left out, and counted by reason: hidden files, files of systems and programs, and files that are not media by their name
(subtitles, tables, archives). All others are read: only the content decides.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from mmattn.errors import UsageError

_BESIDE_MEDIA = """
txt md rst json jsonl json5 yaml yml toml xml nfo csv tsv parquet feather arrow xls xlsx ods html htm pdf doc docx
odt rtf
srt vtt ass ssa sub sbv ttml dfxp smi sami scc lrc idx textgrid eaf align lab log md5 sha1 sha256 sfv par2 torrent
url lnk webloc db sqlite ini cfg py pyc ipynb js css sh bat ps1 exe dll so part partial crdownload tmp bak swp ytdl
aria2
description identifier vsmeta xmp aae thm npy npz pkl h5 hdf5 mat safetensors pt pth ckpt onnx
zip tar tgz gz bz2 xz zst 7z rar iso
"""
NOT_MEDIA = frozenset(f".{name}" for name in _BESIDE_MEDIA.split())
# Of storage boxes (Synology, QNAP), Windows, macOS, Linux, Python and JavaScript.
SYSTEM_FOLDERS = frozenset(
    [
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
        *("system volume information", "found.000", "__macosx", "network trash folder", "temporary items"),
        *("lost+found", "__pycache__", "node_modules"),
    ]
)
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"))
HIDDEN, SYSTEM, NO_MEDIA, LINKED = "hidden", "of the system", "not media by its name", "linking to a folder"


def why_left_out(name: str, folder: bool) -> str | None:
    """Why a file or folder of this name is left out; None if it is not."""
    plain = name.casefold()
    if name.startswith("."):
        return HIDDEN
    if plain in (SYSTEM_FOLDERS if folder else SYSTEM_FILES) or name.startswith("~$"):
        return SYSTEM
    if not folder and (PurePath(plain).suffix in NOT_MEDIA or name.endswith("~")):
        return NO_MEDIA
    return None


def why_path_left_out(path: PurePath) -> str | None:
    """Why a path below a folder is left out, by its first part that is; None if it is not."""
    *folders, name = path.parts
    return next((why for each in folders if (why := why_left_out(each, True))), None) or why_left_out(name, False)


def walk(
    root: Path,
    skipped: Counter[str],
    *,
    without: Path | None = None,
    follow_links: bool = False,
    fail: Callable[[OSError], None] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `root`, with the names of its files that may be media; `skipped` counts the others.

    Leaves out everything below `without`. `follow_links`: enter linked folders too, each once. `fail` gets the errors
    of folders that cannot be listed.
    """
    apart = None if without is None else without.resolve()
    entered: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root, onerror=fail, followlinks=follow_links):
        if follow_links:
            found = Path(folder).stat()
            if (found.st_dev, found.st_ino) in entered:  # a link back up
                folders.clear()
                continue
            entered.add((found.st_dev, found.st_ino))
        folders[:] = _wanted(folders, True, skipped)
        if not follow_links:
            skipped.update(LINKED for each in folders if Path(folder, each).is_symlink())
        if apart is not None:
            folders[:] = [each for each in folders if Path(folder, each).resolve() != apart]
        yield folder, _wanted(names, False, skipped)


def _wanted(names: list[str], folder: bool, skipped: Counter[str]) -> list[str]:
    kept = []
    for name in names:
        if why := why_left_out(name, folder):
            skipped[why] += 1
        else:
            kept.append(name)
    return kept


def files_below(root: Path, skipped: Counter[str], without: Path | None = None) -> list[Path]:
    """The files below a folder that may be media, sorted.

    A folder that cannot be listed is itself among them, so that its error is reported in its turn.
    """
    refused: list[Path] = []
    found = walk(root, skipped, without=without, fail=lambda error: refused.append(Path(error.filename)))
    return sorted([Path(folder, name) for folder, names in found for name in names] + refused)


def summary_of(skipped: Counter[str]) -> str:
    """`16 not media by its name, 2 hidden`, or nothing."""
    return ", ".join(f"{count} {why}" for why, count in skipped.most_common())


def nothing_in(root: object, skipped: Counter[str]) -> UsageError:
    """The error for a folder without media."""
    return UsageError(f"{root}: holds no files to work on" + (f" (left out: {summary_of(skipped)})" if skipped else ""))
