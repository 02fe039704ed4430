"""Where the file that belongs to a record is put: beside its video, or in a folder under its id. Never outside it."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from mmattn.inference.writers.interface import Record

NAME_BYTES = 255  # of a name, in the usual file systems
_PATH_BYTES = 2000  # of an id as a path; a longer one is no path


def places(record: Record, folder: Path | None, suffix: str) -> Iterator[Path]:
    """Where its file may lie, the best first: a.vtt for a.mp4, else a.mp4.vtt, a.mp4.2.vtt and so on.

    `folder` None: beside the video. The same record gives the same places.
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
    """`name` and `suffix`, the name cut where both have more than 255 bytes; then a hash tells it from others."""
    raw = os.fsencode(name)
    room = NAME_BYTES - len(os.fsencode(suffix))
    if len(raw) <= room:
        return name + suffix
    mark = "~" + hashlib.sha256(raw).hexdigest()[:12]
    kept = raw[: room - len(mark)].decode("utf-8", "ignore") if _is_utf8(raw) else os.fsdecode(raw[: room - len(mark)])
    return kept + mark + suffix


def _parts(name: str) -> list[str]:
    """An id as folders and a name: no part is empty, `.` or `..`, and the file system takes all their characters."""
    parts = [_plain(part) for part in name.split("/") if part]
    if not parts or len(os.fsencode("/".join(parts))) > _PATH_BYTES:
        return [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()]
    return parts


def _plain(part: str) -> str:
    plain = "".join("_" if _refused(c) else c for c in part)
    return plain if plain.strip(".") else "_" * len(plain)


def _refused(character: str) -> bool:
    """Control characters, and surrogates that stand for no byte of a name."""
    category = unicodedata.category(character)
    return category == "Cc" or (category == "Cs" and not "\udc80" <= character <= "\udcff")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
