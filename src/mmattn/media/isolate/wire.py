"""Messages between IsolatedReader and its worker: JSON, raw samples and descriptors over a socket, never pickles.

A worker that is controlled by a hostile file must not reach its parent: every message is checked, and an invalid one
costs one file.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmattn.media.read.decode import DecodedClip, Viewed

_LENGTHS = struct.Struct("<QQ")  # bytes of JSON, bytes of samples
_MOST_TEXT = 1 << 24  # bytes of JSON
_TYPES = {"frames": np.uint8, "frame_times": np.float64, "waveform": np.float32, "sound": np.float32}


@dataclass(frozen=True)
class Message:
    """`head`: the JSON; `samples`: the bytes of its arrays; `descriptors`: of files."""

    head: dict[str, Any]
    samples: bytearray
    descriptors: list[int]


def send(
    to: socket.socket, head: dict[str, Any], samples: Sequence[np.ndarray] = (), descriptors: Sequence[int] = ()
) -> None:
    """Send one message. ASCII JSON holds undecodable path bytes as lone surrogates."""
    text = json.dumps(head).encode("ascii")
    lengths = _LENGTHS.pack(len(text), sum(array.nbytes for array in samples))
    sent = socket.send_fds(to, [lengths], descriptors)
    to.sendall(lengths[sent:] + text)
    for array in samples:
        if array.size:
            to.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def receive(source: socket.socket, at_most: int = 1 << 40, within_s: float | None = None) -> Message | None:
    """Receive one message with at most `at_most` bytes of samples.

    None if the connection is closed or the message invalid. Raises TimeoutError if it does not arrive in `within_s` s.
    """
    until = None if within_s is None else time.monotonic() + within_s
    _limit(source, until)
    try:
        start, descriptors, _, _ = socket.recv_fds(source, _LENGTHS.size, 1)
        rest = _exactly(source, _LENGTHS.size - len(start), until) if start else None
        if rest is None:
            return None
        text_bytes, sample_bytes = _LENGTHS.unpack(start + rest)
        if text_bytes > _MOST_TEXT or sample_bytes > at_most:
            return None
        text = _exactly(source, text_bytes, until)
        samples = None if text is None else _exactly(source, sample_bytes, until)
        head = None if text is None else json.loads(text)
    except (ConnectionError, ValueError):
        return None
    return Message(head, samples, descriptors) if isinstance(head, dict) and samples is not None else None


def _limit(source: socket.socket, until: float | None) -> None:
    if until is not None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        source.settimeout(left)


def _exactly(source: socket.socket, count: int, until: float | None) -> bytearray | None:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        _limit(source, until)
        read = source.recv_into(view[got:])
        if not read:
            return None
        got += read
    return data


def pack(part: DecodedClip) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A decoded clip as JSON and arrays."""
    named = {name: getattr(part, name) for name in ("frames", "frame_times", "waveform")}
    for i, view in enumerate(part.views):
        named |= {f"frames {i}": view.frames, f"frame_times {i}": view.times}
    named |= {f"sound {i}": sound for i, sound in enumerate(part.sounds)}
    arrays = {name: array for name, array in named.items() if array is not None}
    head = {
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "views": len(part.views),
        "sounds": len(part.sounds),
        "sample_rate": part.sample_rate,
        "audio_start": part.audio_start,
        "span": list(part.span),
        "duration": part.duration,
        "issues": list(part.issues),
    }
    return head, list(arrays.values())


def unpack(head: dict[str, Any], samples: bytearray, source: str) -> DecodedClip:
    """The reverse of `pack`. Raises ValueError for an invalid message."""
    try:
        arrays, at = {}, 0
        for name, shape in head["shapes"].items():
            kind = _TYPES[name.partition(" ")[0]]
            arrays[name] = np.frombuffer(samples, kind, int(np.prod(shape)), at).reshape(shape)
            at += arrays[name].nbytes
        return DecodedClip(
            frames=arrays.get("frames"),
            frame_times=arrays["frame_times"],
            waveform=arrays.get("waveform"),
            sample_rate=int(head["sample_rate"]),
            audio_start=float(head["audio_start"]),
            source=source,
            span=(float(head["span"][0]), float(head["span"][1])),
            duration=None if head["duration"] is None else float(head["duration"]),
            issues=tuple(str(issue) for issue in head["issues"]),
            views=tuple(Viewed(arrays.get(f"frames {i}"), arrays[f"frame_times {i}"]) for i in range(head["views"])),
            sounds=tuple(arrays.get(f"sound {i}") for i in range(head["sounds"])),
        )
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from error
