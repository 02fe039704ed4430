"""An entry of a job: a file, or a part of one, with its size and modification time when it was listed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.inference.reading.piece import Piece
from mmattn.media.open.source import open_source

_BLOCK = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to process. `size` and `mtime_ns` are None if it does not exist; its record is then a failure."""

    id: str
    path: str  # absolute
    size: int | None  # bytes
    mtime_ns: int | None
    offset: int | None = None  # the media is a member of the tar at `path`,
    member: int | None = None  # its size, bytes
    start: float | None = None  # a part of it, s
    end: float | None = None
    digest: str | None = None  # SHA-256 of its content, if identity=hash

    @property
    def place(self) -> tuple[str, int | None, int | None, float | None, float | None]:
        """The file, or part of one, that it stands for."""
        return self.path, self.offset, self.member, self.start, self.end

    @property
    def media(self) -> Path | ByteRange:
        """Where the media is."""
        path = Path(self.path)
        return path if self.offset is None or self.member is None else ByteRange(path, self.offset, self.member)

    @property
    def piece(self) -> Piece:
        """The part of the media that has a record."""
        return Piece(self.media, self.start or 0.0, self.end)

    def changed(self) -> bool:
        """Whether the file was replaced or removed after it was listed."""
        return self.size is not None and not self.same_file(self.as_it_is())

    def same_file(self, other: Entry) -> bool:
        """Whether the file is unchanged in `other`, by size and digest, or by size and time of the last change."""
        if self.digest is not None and other.digest is not None:
            return (self.size, self.digest) == (other.size, other.digest)
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    def as_it_is(self) -> Entry:
        """The same file as it is now. It is read for a digest only if its size or time has changed."""
        now = entry_of(self.id, self.path)
        same = replace(self, size=now.size, mtime_ns=now.mtime_ns)
        return same if self.digest is None or same == self else same.with_digest()

    def with_digest(self) -> Entry:
        """The entry with the digest of the present content, None if it cannot be read."""
        return replace(self, digest=_digest(self.media))

    def to_dict(self) -> dict[str, Any]:
        """As a line of a job's shard."""
        plain = asdict(self)
        return {name: value for name, value in plain.items() if value is not None or name in ("size", "mtime_ns")}


def entry_of(name: str, path: str) -> Entry:
    """The entry of the file at `path`, as it is now."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return Entry(name, path, None, None)
    return Entry(name, path, found.st_size, found.st_mtime_ns)


def _digest(media: Path | ByteRange) -> str | None:
    digest = hashlib.sha256()
    try:
        with open_source(media) as content:
            for position in range(0, content.size, _BLOCK):
                digest.update(content.read_at(position, min(_BLOCK, content.size - position)))
    except (MediaError, OSError):
        return None
    return digest.hexdigest()
