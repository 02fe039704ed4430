"""The process side of IsolatedReader: a nursery that imports the decoder once and forks one worker at a time.

The nursery talks to its owner on a control socket: a byte with a descriptor asks for a new worker on that socket, the
answer tells how the one before ended. When the owner is gone the socket closes, and nursery and worker end with it.
Messages are JSON and raw samples, never pickles: a worker taken over by a hostile file must not reach its owner.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from mmattn.errors import MediaError
from mmattn.media.decode import answer
from mmattn.media.open import Limits
from mmattn.media.request import Request
from mmattn.media.source import Source, taken_over
from mmattn.media.survey import survey
from mmattn.types import Clip

OUT_OF_MEMORY = 12  # exit status
_LENGTHS = struct.Struct("<QQ")  # bytes of JSON, bytes of samples


def nursery(control_fd: int) -> None:
    """Serve worker after worker until the owner closes the control socket."""
    torch.set_num_threads(1)
    control = socket.socket(fileno=control_fd)
    control.sendall(b"\x00")  # imported, ready
    worker = 0
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        status = _end(worker)
        if not message:
            return
        worker = os.fork()
        if worker == 0:
            control.close()
            _live(fds[0])
        os.close(fds[0])
        control.sendall(struct.pack("<ii", worker, status))


def _end(worker: int) -> int:
    """Kill and reap; the status the worker had if it was dead already, else that of the kill."""
    if not worker:
        return 0
    os.kill(worker, signal.SIGKILL)  # not yet reaped, so the id is still its own
    return os.waitpid(worker, 0)[1]


def _live(fd: int) -> NoReturn:
    """The whole life of a worker; it must never return into the nursery's loop."""
    status = 1
    try:
        _work(socket.socket(fileno=fd))
        status = 0
    except (MemoryError, RuntimeError) as error:
        status = OUT_OF_MEMORY if _is_out_of_memory(error) else 1  # too little left even to say so
    finally:
        os._exit(status)


def _work(owner: socket.socket) -> None:
    """Answer questions until the owner hangs up."""
    while (asked := receive(owner)) is not None:
        message, _, descriptors = asked
        _restrict(message["memory_bytes"], message["cpu_s"])
        with taken_over(message["source"], descriptors) as source:
            reply, samples = _answer(message, source)
        send(owner, reply, samples)


def _restrict(memory_bytes: int, cpu_s: float) -> None:
    """Room for one more file: so much memory above what is mapped, so much more processor time, no file written."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere the memory stays uncapped
        _lower(resource.RLIMIT_AS, int(statm.read_text().split()[0]) * resource.getpagesize() + memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_s) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _lower(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _answer(message: dict[str, Any], source: Source) -> tuple[dict[str, Any], list[np.ndarray]]:
    limits, deadline_s, follow = Limits(**message["limits"]), message["deadline_s"], message["follow_symlinks"]
    try:
        if "survey" in message:
            found = survey(source, message["survey"], limits=limits, deadline_s=deadline_s, follow_symlinks=follow)
            return found.to_dict(), []
        return pack(answer(Request(**message["request"]), source, limits, deadline_s, follow))
    except MediaError as error:
        return {"failed": error.reason, "detail": error.detail}, []
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return {"failed": "too_large", "detail": "out of memory"}, []


def _is_out_of_memory(error: Exception) -> bool:
    """torch's allocator raises a plain RuntimeError."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def pack(clip: Clip) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A clip as JSON and arrays."""
    tensors = {"frames": clip.frames, "frame_times": clip.frame_times, "waveform": clip.waveform}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    head = {
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "sample_rate": clip.sample_rate,
        "audio_start": clip.audio_start,
        "span": list(clip.span),
        "duration": clip.duration,
        "issues": list(clip.issues),
    }
    return head, list(arrays.values())


_TYPES = {"frames": np.uint8, "frame_times": np.float64, "waveform": np.float32}


def unpack(head: dict[str, Any], samples: bytearray, source: str) -> Clip:
    """What `pack` packed."""
    tensors, at = {}, 0
    for name, shape in head["shapes"].items():
        array = np.frombuffer(samples, _TYPES[name], int(np.prod(shape)), at).reshape(shape)
        tensors[name] = torch.from_numpy(array)
        at += array.nbytes
    return Clip(
        frames=tensors.get("frames"),
        frame_times=tensors["frame_times"],
        waveform=tensors.get("waveform"),
        sample_rate=int(head["sample_rate"]),
        audio_start=float(head["audio_start"]),
        source=source,
        span=(float(head["span"][0]), float(head["span"][1])),
        duration=None if head["duration"] is None else float(head["duration"]),
        issues=tuple(str(issue) for issue in head["issues"]),
    )


def question(
    asked: dict[str, Any], source: dict[str, Any], limits: Limits, deadline_s: float, follow_symlinks: bool
) -> dict[str, Any]:
    """The JSON of one question, all but the resource limits: `asked` is {"request": a Request's fields} or
    {"survey": a depth}, `source` as handed_over tells it."""
    return asked | {
        "source": source,
        "limits": asdict(limits),
        "deadline_s": deadline_s,
        "follow_symlinks": follow_symlinks,
    }


def send(to: socket.socket, head: dict[str, Any], samples: list[np.ndarray], descriptors: Sequence[int] = ()) -> None:
    """One message. ASCII JSON carries undecodable path bytes as lone surrogates."""
    text = json.dumps(head).encode("ascii")
    lengths = _LENGTHS.pack(len(text), sum(array.nbytes for array in samples))
    sent = socket.send_fds(to, [lengths], descriptors)
    to.sendall(lengths[sent:] + text)
    for array in samples:
        if array.size:
            to.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def receive(source: socket.socket, at_most: int = 1 << 40) -> tuple[dict[str, Any], bytearray, list[int]] | None:
    """One message: JSON, samples, descriptors. None if the other side hung up or announces over `at_most` bytes.

    Timeouts pass.
    """
    head, descriptors, _, _ = socket.recv_fds(source, _LENGTHS.size, 1)
    rest = _exactly(source, _LENGTHS.size - len(head)) if head else None
    if rest is None:
        return None
    text_bytes, sample_bytes = _LENGTHS.unpack(head + rest)
    if text_bytes + sample_bytes > at_most:
        return None
    text = _exactly(source, text_bytes)
    samples = _exactly(source, sample_bytes) if text is not None else None
    return None if text is None or samples is None else (json.loads(text), samples, descriptors)


def _exactly(source: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        read = source.recv_into(view[got:])
        if not read:
            return None
        got += read
    return data
