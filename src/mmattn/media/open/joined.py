"""Matroska and WebM files joined byte by byte (`cat a.webm b.webm`), as left by recorders that pause or upload parts.

FFmpeg reads on into the next file, on a clock that starts anew, but only where the segment before it does not say where
it ends, as in a stream. So the segments of joined files are shown to it without their sizes. Elements: RFC 8794,
section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from av.container.input import InputContainer

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD, _ELEMENTS = 16, 4096  # bytes of an element's id and size; elements that are looked at


class _File(Protocol):
    def read(self, count: int) -> bytes: ...
    def seek(self, offset: int) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True)
class _Element:
    """An element at the outermost level. `size` None: it does not say where it ends."""

    head: bytes
    at: int  # of its size, bytes from the file's start
    width: int  # of its size, bytes
    size: int | None


def sizes_hidden(file: _File) -> dict[int, bytes]:
    """Bytes to read in place of those of a joined file, by their position; none for other files."""
    elements = list(_elements(file))
    if sum(each.head.startswith(_EBML) for each in elements) < 2:
        return {}
    segments = [each for each in elements if each.head.startswith(_SEGMENT)]
    return {each.at: bytes([0xFF >> (each.width - 1)]) + b"\xff" * (each.width - 1) for each in segments}


def may_be_joined(container: InputContainer) -> bool:
    """Whether the first segment does not end the file: a stream, or a joined file, whose first part may be cut.

    False for containers other than Matroska.
    """
    if container.format.name != "matroska,webm" or container.file is None:  # type: ignore[attr-defined] # by its name
        return False
    elements = _elements(container.file.file)  # type: ignore[attr-defined] # what `open_container` gave to PyAV
    first = next((each for each in elements if each.head.startswith(_SEGMENT)), None)
    return first is not None and (first.size is None or first.at + first.width + first.size < container.size)


def _elements(file: _File) -> Iterator[_Element]:
    """The elements of the outermost level, up to one of unknown size: of each file the header and the segment."""
    before, at = file.tell(), 0
    try:
        for _ in range(_ELEMENTS):
            file.seek(at)
            element = _element(file.read(_HEAD), at)
            if element is None or (at == 0 and not element.head.startswith(_EBML)):
                return
            yield element
            if element.size is None:
                return
            at = element.at + element.width + element.size
    finally:
        file.seek(before)


def _element(head: bytes, at: int) -> _Element | None:
    """The element whose first bytes, at `at`, are `head`; None if there is none."""
    if not head or not head[0]:
        return None
    name = 9 - head[0].bit_length()  # bytes of its id
    if len(head) <= name or not head[name]:
        return None
    width = 9 - head[name].bit_length()
    if len(head) < name + width:
        return None
    size = int.from_bytes(head[name : name + width]) & ((1 << 7 * width) - 1)
    return _Element(head, at + name, width, None if size == (1 << 7 * width) - 1 else size)
