"""The clock of AAC in ADTS, from the header of each frame (ISO/IEC 14496-3, 1.A.3).

FFmpeg counts all frames by the sample rate of the first, which in joined files is that of the first part only.
"""

from __future__ import annotations

from av.packet import Packet

NAME = "aac"  # as FFmpeg calls the container
_HEAD = 7
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_BLOCK = 1024  # samples


class AdtsClock:
    """Takes the packets in order and gives each the stamp at which the one before it ends."""

    def __init__(self) -> None:
        self._next: int | None = None

    def place(self, packet: Packet) -> bool:
        """Set the stamps and the duration of the next packet. Returns False: no jump was removed."""
        seconds = _seconds(bytes(memoryview(packet)[:_HEAD]))
        if self._next is None:
            self._next = packet.pts or 0
        if seconds and packet.time_base:
            packet.duration = round(seconds / packet.time_base)
        packet.pts = packet.dts = self._next
        self._next += packet.duration or 0
        return False


def _seconds(head: bytes) -> float | None:
    """The length of a frame by its header; None if that is damaged."""
    if len(head) < _HEAD or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    number = head[2] >> 2 & 0xF
    return _BLOCK * (1 + (head[6] & 3)) / _RATES[number] if number < len(_RATES) else None
