"""Packets that nobody waits for leave nothing behind."""

from __future__ import annotations

import ctypes
import gc
import wave
from pathlib import Path

import av
import pytest

from mmattn.media.open.packets import demux

ROUNDS = 400


class MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(f"field{k}", ctypes.c_size_t) for k in range(10)]


def _in_use() -> int:
    """Bytes that the heap has given out."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        pytest.skip("needs glibc 2.33")
    ask.restype = MallInfo
    info = ask()
    return info.field7 + info.field4


def test_packets_dropped_before_the_end_keep_no_memory(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(32000))

    def look() -> None:
        with av.open(str(tmp_path / "a.wav")) as container:
            for packet in demux(container, container.streams.audio[0]):
                assert packet.size
                break

    for _ in range(50):
        look()
    gc.collect()
    before = _in_use()
    for _ in range(ROUNDS):
        look()
    gc.collect()
    assert (_in_use() - before) / ROUNDS < 80  # bytes; PyAV's own generator keeps 144 and more
