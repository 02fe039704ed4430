"""Where the file of a record is written: beside its video, or in a folder under its id, never outside of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from mmattn.inference.records.build import Record

NAME_BYTES = 255  # of a name in common file systems
_PATH_BYTES = 2000  # of an id that is used as a path


def places(record: Record, folder: Path | None, suffix: str) -> Iterator[Path]:
    """The possible paths of the file, best first: a.vtt for a.mp4, else a.mp4.vtt, a.mp4.2.vtt and so on.

    `folder` None: beside the video. The same record always gives the same paths.
    """
    media = Path(record["path"])
    if folder is None:
        parent, name = media.parent, media.name
    else:
        *above, name = _parts(record["id"])
        parent = folder.joinpath(*(fitting(part, "_" if part.lower().endswith(suffix) else "") for part in above))
    stem = name.removesuffix(media.suffix) or name
    for plain in itertools.chain((stem, name), (f"{name}.{number}" for number in itertools.count(2))):
        yield parent / fitting(plain, suffix)


def fitting(name: str, suffix: str) -> str:
    """`name` + `suffix`; a name that is too long is cut and gets a hash, so that it stays unique."""
    raw = os.fsencode(name)
    room = NAME_BYTES - len(os.fsencode(suffix))
    if len(raw) <= room:
        return name + suffix
    mark = "~" + hashlib.sha256(raw).hexdigest()[:12]
    kept = raw[: room - len(mark)].decode("utf-8", "ignore") if _is_utf8(raw) else os.fsdecode(raw[: room - len(mark)])
    return kept + mark + suffix


def _parts(name: str) -> list[str]:
    """An id as folders and a name: no part is empty, `.` or `..`, and every character is allowed in file names."""
    parts = [_plain(part) for part in name.split("/") if part]
    if not parts or len(os.fsencode("/".join(parts))) > _PATH_BYTES:
        return [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()]
    return parts


def _plain(part: str) -> str:
    plain = "".join("_" if _is_forbidden(c) else c for c in part)
    return plain if plain.strip(".") else "_" * len(plain)


def _is_forbidden(character: str) -> bool:
    """Whether a character is a control character, or a surrogate that stands for no byte of a name."""
    category = unicodedata.category(character)
    return category == "Cc" or (category == "Cs" and not "\udc80" <= character <= "\udcff")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
