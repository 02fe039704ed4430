"""A list of tags and what is said of each, as a person writes it: a file, or names in the config. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.config.names import split
from mmattn.data.manifest.rows import read_manifest
from mmattn.data.manifest.textfiles import text_lines_of
from mmattn.errors import UsageError
from mmattn.files import expanded


def read_tags(path: Path, key: str = "tags") -> dict[str, str]:
    """What is said of each tag: of a .txt file's lines, after a tab where there is one; of a manifest's rows, the tags.

    Without words of its own a tag is known by its name: what stands after its group, blanks for underscores. `key`:
    the setting that named the file. Raises UsageError.
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
    """The same of a file's name, or of a list of tags, which the command line has as [dog,red cat].

    Raises UsageError.
    """
    if isinstance(given, str) and not (given[:1] == "[" and given[-1:] == "]"):
        return read_tags(expanded(given), key)
    names = [str(name).strip() for name in (split(given[1:-1]) if isinstance(given, str) else given)]
    if not names or "" in names:
        raise UsageError(f"{key}={list(given)}: expected tags, or a file with a tag a line")
    return {name: spoken(name) for name in sorted(set(names))}


def spoken(tag: str) -> str:
    return tag.rpartition("/")[2].replace("_", " ")
