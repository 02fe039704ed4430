"""Reads a list of tags and the words for each, from a file or from the command line. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.config.names import split
from mmattn.data.manifest.rows import read_manifest
from mmattn.data.manifest.textfiles import text_lines_of
from mmattn.errors import UsageError
from mmattn.files import expanded


def read_tags(path: Path, key: str = "tags") -> dict[str, str]:
    """The words for each tag of a file: a .txt file with a tag a line (after a tab: words for it), or a manifest.

    A tag without words is described by its name, see `spoken`. `key`: the setting that named the file. Raises
    UsageError.
    """
    if not path.is_file():
        raise UsageError(f"{key}={path}: no such file; expected a .txt file with a tag a line, or a manifest")
    if path.suffix == ".txt":
        split = [line.partition("\t") for line in text_lines_of(path) if line.strip()]
        tags = {name.strip(): words.strip() or spoken(name.strip()) for name, _, words in split}
    else:
        tags = {tag: spoken(tag) for row in read_manifest(path) for tag in row.tags}
    if not tags or "" in tags:
        raise UsageError(f"{key}={path}: {'has a line without a tag before its tab' if tags else 'names no tags'}")
    return dict(sorted(tags.items()))


def given_tags(given: str | Sequence[str], key: str) -> dict[str, str]:
    """As read_tags, for the name of a file, or for a list of tags, on the command line [dog,red cat]."""
    if isinstance(given, str) and not (given[:1] == "[" and given[-1:] == "]"):
        return read_tags(expanded(given), key)
    names = [str(name).strip() for name in (split(given[1:-1]) if isinstance(given, str) else given)]
    if not names or "" in names:
        raise UsageError(f"{key}={list(given)}: expected tags, or a file with a tag a line")
    return {name: spoken(name) for name in sorted(set(names))}


def spoken(tag: str) -> str:
    """The words for a tag: its name after the group, with spaces for underscores."""
    return tag.rpartition("/")[2].replace("_", " ")
