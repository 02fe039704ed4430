"""Find identical files, and files that look and sound the same.

Identical: for files of equal size the two ends are compared first, and only if these agree the whole content. Alike: by
the hashes of a survey; a re-encoded, scaled or quieter copy is recognised, one that was cut is not.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmattn.data.manifest.library import Item

_EDGE = 1 << 16  # bytes of each end
_CHUNK = 1 << 20  # bytes read at once
_SEEN_BITS = 24 / 256  # of frames, where the audio agrees too. Measured on re-encoded clips: 1 to 20 of 256;
_ONLY_SEEN_BITS = 12 / 256  # clips of one still scene differ by as little, but then their sounds differ
_HEARD_BITS = 4  # of 32. Measured: copies 0 to 3, other clips of one scene 6 and more
_TRIED = 64  # files compared with, at most, of those that share a part of a hash


def edges_digest(item: Item, size: int) -> str:
    """SHA-256 of the first and the last 64 KiB. Raises OSError."""
    return _digest(item, [(0, min(size, _EDGE)), (max(size - _EDGE, 0), size)])


def content_digest(item: Item, size: int) -> str:
    """SHA-256 of the whole content. Raises OSError."""
    return _digest(item, [(0, size)])


def _digest(item: Item, spans: Iterable[tuple[int, int]]) -> str:
    digest, base = hashlib.sha256(), item.offset or 0
    fd = os.open(item.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for start, end in spans:
            for at in range(start, end, _CHUNK):
                digest.update(os.pread(fd, min(_CHUNK, end - at), base + at))
    finally:
        os.close(fd)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The video and audio hashes of a survey; 0 where there is nothing to compare."""

    picture: int  # four times 64 bits
    sound: int  # 32 bits
    duration: float  # s
    pictures: int  # in the file

    def parts(self) -> list[tuple[int, int]]:
        """The parts of which two files must share one to be compared: one of the four frames, or the audio."""
        shown = [(place, self.picture >> 64 * place & (1 << 64) - 1) for place in range(4)]
        return [part for part in [*shown, (4, self.sound)] if part[1]]

    def is_like(self, other: Fingerprint) -> bool:
        """Whether two files look and sound the same."""
        if abs(self.duration - other.duration) > max(0.5, 0.05 * self.duration):
            return False
        if bool(self.picture) != bool(other.picture) or (self.pictures == 1) != (other.pictures == 1):
            return False
        if not self.picture:
            return bool(self.sound) and self.sound == other.sound
        bits = 64 * max(len([part for part in self.parts() if part[0] < 4]), 1)
        apart = (self.picture ^ other.picture).bit_count()
        if self.sound and other.sound:
            return apart <= _SEEN_BITS * bits and (self.sound ^ other.sound).bit_count() <= _HEARD_BITS
        return apart <= _ONLY_SEEN_BITS * bits


def alike(prints: Sequence[Fingerprint | None]) -> dict[int, int]:
    """For each file that is like an earlier one, the index of the first such file."""
    first: dict[int, int] = {}
    shelves: dict[tuple[int, int], list[int]] = defaultdict(list)  # part of a hash -> the first files that have it
    for index, found in enumerate(prints):
        if found is None:
            continue
        near = {other: None for part in found.parts() for other in shelves.get(part, ())}
        match = next((other for other in near if found.is_like(prints[other])), None)  # type: ignore[arg-type]
        if match is not None:
            first[index] = match
            continue
        for part in found.parts():
            if len(shelves[part]) < _TRIED:
                shelves[part].append(index)
    return first
