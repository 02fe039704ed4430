"""Files put together byte by byte, as no muxer would write them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av


def raw_mp4(samples: int = 4, delta: int = 1, tracks: int = 1, timescale: int = 25, duration: int = 4) -> bytes:
    """16 x 16 raw RGB pictures in QuickTime: what the header claims, over four pictures of data.

    `samples` of `delta` ticks each; `tracks` that all point at the same data; `duration` as the header declares it.
    """
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    shape = (*_words16(16, 16), *_words(72 << 16, 72 << 16, 0))
    depth = struct.pack(">Hh", 24, -1)
    entry = _box(b"raw ", bytes(7), b"\x01", bytes(16), bytes(shape), b"\x00\x01", bytes(32), depth)
    table = _box(
        b"stbl",
        _full(b"stsd", _words(1), entry),
        _full(b"stts", _words(1, samples, delta)),
        _full(b"stsc", _words(1, 1, samples, 1)),
        _full(b"stsz", _words(768, samples)),
        _full(b"stco", _words(1, 36)),
    )
    source = _box(b"dinf", _full(b"dref", _words(1), _full(b"url ", flags=1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", _words(0, 0, timescale, duration), _words16(0x55C4, 0)),
        _full(b"hdlr", bytes(4), b"vide", bytes(13)),
        _box(b"minf", _full(b"vmhd", bytes(8), flags=1), source, table),
    )
    size = _words(16 << 16, 16 << 16)
    tracks_ = [
        _box(b"trak", _full(b"tkhd", _words(0, 0, k, 0, duration), bytes(16), matrix, size, flags=3), media)
        for k in range(1, tracks + 1)
    ]
    head = _full(b"mvhd", _words(0, 0, timescale, duration, 1 << 16), _words16(256), bytes(10), matrix, bytes(28))
    pictures = b"".join(bytes([grey]) * 768 for grey in (16, 24, 32, 40))
    return _box(b"ftyp", b"qt  \0\0\0\0qt  \0\0\0\0") + _box(b"mdat", pictures) + _box(b"moov", head, *tracks_)


def wav(samples: bytes, rate: int = 16000, channels: int = 1) -> bytes:
    """16-bit PCM."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def png(side: int) -> bytes:
    """A grey picture of `side` x `side`, all black."""
    row, pack = bytes(1 + side), zlib.compressobj(1)
    data = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def remuxed(path: Path, container: str, **options: str) -> bytes:
    """The packets of `path` in another container."""
    file = io.BytesIO()
    with av.open(str(path)) as source, av.open(file, "w", format=container, options=options) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.dts = packet.pts if packet.dts is None else packet.dts
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return file.getvalue()


def restamped(flv: bytes, stamp: Callable[[int, int], int]) -> bytes:
    """The same tags with the time `stamp(tag number, ms)` each."""
    data, at, count = bytearray(flv), 13, 0
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4])
        if data[at] in (8, 9):
            time = stamp(count, int.from_bytes(data[at + 4 : at + 7]) | data[at + 7] << 24) & 0xFFFFFFFF
            data[at + 4 : at + 7], data[at + 7] = (time & 0xFFFFFF).to_bytes(3), time >> 24
        at, count = at + 11 + size + 4, count + 1
    return bytes(data)


def patched(data: bytes, mark: bytes, value: bytes) -> bytes:
    """`data` with the bytes after the first `mark` replaced by `value`."""
    at = data.index(mark) + len(mark)
    return data[:at] + value + data[at + len(value) :]


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def _full(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", flags), *parts)


def _words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def _words16(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)
