"""Matroska and WebM files joined byte by byte (`cat a.webm b.webm`): FFmpeg reads on, on a clock that starts anew.

A recorder that is paused and one that uploads in parts leave such files. Elements: RFC 8794, section 4.
"""

from __future__ import annotations

from av.container.input import InputContainer

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD, _ELEMENTS = 16, 12  # bytes of an element's id and size; elements that are looked at


def may_be_joined(container: InputContainer) -> bool:
    """Whether another file follows the first segment, or the segment does not say where it ends, as in a stream.

    False for containers other than Matroska.
    """
    return container.format.name == "matroska,webm" and _parts(container) != 1


def has_unread_parts(container: InputContainer) -> bool:
    """Whether more files are joined than FFmpeg reads: two, where segments say where they end."""
    return container.format.name == "matroska,webm" and _parts(container) > 2


def _parts(container: InputContainer) -> int:
    """How many files are joined in this one, at most 3; 0 where the first segment does not say where it ends."""
    if container.file is None:  # type: ignore[attr-defined] # opened by its name
        return 1
    file = container.file.file  # type: ignore[attr-defined] # what `open_container` gave to PyAV
    before, at, count = file.tell(), 0, 0
    for _ in range(_ELEMENTS):  # of each part the EBML header, perhaps Void and CRC-32, the segment
        file.seek(at)
        head = file.read(_HEAD)
        count += head.startswith(_EBML)
        after = _after(head, at)
        if after is None or count == 3:
            count = 0 if count == 1 and head.startswith(_SEGMENT) else count
            break
        at = after
    file.seek(before)
    return count


def _after(head: bytes, at: int) -> int | None:
    """Where the element ends whose first bytes, at `at`, are `head`; None for one of unknown size, or no element."""
    if not head or not head[0]:
        return None
    name = 9 - head[0].bit_length()  # bytes of its id
    if len(head) <= name or not head[name]:
        return None
    width = 9 - head[name].bit_length()
    size = int.from_bytes(head[name : name + width]) & ((1 << 7 * width) - 1)
    unknown = size == (1 << 7 * width) - 1
    return None if unknown or len(head) < name + width else at + name + width + size
