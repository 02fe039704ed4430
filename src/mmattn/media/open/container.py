"""Open an untrusted file.

FFmpeg follows references: playlists name other files and hosts, `img%d.png` names a series, a FIFO blocks for ever.
Here it gets only bytes: the content of a regular file (see source) without its name, containers from a fixed list, no
protocol, and limits on what it may allocate. Every failure is raised as MediaError.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import av
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.error import FFmpegError
from av.logging import set_level
from av.video.stream import VideoStream

from mmattn.errors import MediaError, MediaReason
from mmattn.media.open.formats import FORMATS
from mmattn.media.open.joined import sizes_hidden
from mmattn.media.open.source import Content, Source, name_of, open_source
from mmattn.media.open.trust import trusted_duration

# The first bytes of known formats: if FFmpeg still refuses the file, it is cut off and not something else.
_MAGIC = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"OggS"), (0, b"FLV\x01"),
    (0, b"fLaC"), (0, b"ID3"), (0, b"GIF8"), (0, b".RMF"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
)  # fmt: skip


CHANGED = "its size or modification time changed during reading; read it again when it is complete"
_NOT_ALLOWED = "not one of the allowed formats (listed in docs/media.md): convert it, for example to MP4 or WAV"


@dataclass(frozen=True)
class Limits:
    """Limits on one file. Exceeding one raises MediaError, too_long or too_large."""

    duration_s: float = 24 * 3600.0
    frame_pixels: int = 8192 * 4320  # an 8K frame
    streams: int = 64
    frames: int = 10_000_000  # of one file's video, and of one Clip's grid
    sample_rate: int = 768_000  # Hz; resampling from wild rates takes minutes and gigabytes
    decoded_bytes: int = 4 << 30  # of one Clip


class Deadline:
    """A monotonic time limit on reading one file."""

    def __init__(self, path: str, seconds: float | None) -> None:
        self.path = path
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Start the same time limit again, for the next part of the file."""
        self._until = None if self.seconds is None else time.monotonic() + self.seconds

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self._until is not None and time.monotonic() > self._until

    def check(self) -> None:
        """Raise MediaError("timeout") if the time is up."""
        if self.passed:
            raise MediaError(self.path, "timeout", f"not read within {self.seconds} s")


class NamelessFile:
    """A file object without a name for FFmpeg. Its methods never raise: PyAV raises a callback's error in a later call.

    The error is kept in `error` instead.
    """

    def __init__(self, content: Content, deadline: Deadline) -> None:
        self._content = content
        self._deadline = deadline
        self._position = 0
        self.shown: dict[int, bytes] = {}  # in place of the file's own bytes at these positions
        self.error: Exception | None = None

    def read(self, count: int) -> bytes:
        """The next `count` bytes; none at the file's end, after the deadline and after an error."""
        if self._deadline.passed:
            return b""  # as at the file's end; the caller checks the deadline
        try:
            data = self._content.read_at(self._position, count)
        except Exception as error:  # a file object may raise anything
            self.error = error
            return b""
        data = self._as_shown(data) if self.shown else data
        self._position += len(data)
        return data

    def _as_shown(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for at, own in self.shown.items():
            low, high = max(at - self._position, 0), min(at + len(own) - self._position, len(data))
            if low < high:
                changed[low:high] = own[low + self._position - at : high + self._position - at]
        return bytes(changed)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position; -1 for one before the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}[whence]
        if base + offset < 0:
            return -1
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position, bytes."""
        return self._position


@contextmanager
def open_container(
    src: Source,
    *,
    limits: Limits | None = None,
    deadline: Deadline | None = None,
    follow_symlinks: bool = False,
) -> Iterator[InputContainer]:
    """Open `src` as an input container, its decoders limited and single-threaded.

    Raises MediaError: unreadable, not_media, truncated, too_large, too_long, timeout, and changed at the end if the
    file's size or modification time changed. FFmpeg errors raised inside the body become MediaError("truncated").
    """
    limits, name = limits or Limits(), name_of(src)
    deadline = deadline or Deadline(name, None)
    set_level(None)  # FFmpeg's log callback can deadlock in threads and processes
    with open_source(src, follow_symlinks) as content:
        before = content.stamp()
        file = NamelessFile(content, deadline)
        file.shown = sizes_hidden(file)
        container = _open_av(name, content, file, deadline, limits)
        try:
            _apply_limits(container, name, limits)
            yield container
        except MemoryError as error:  # PyAV's own is an FFmpegError too
            raise MediaError(name, "too_large", "out of memory") from error
        except FFmpegError as error:
            deadline.check()
            raise MediaError(name, "truncated", one_line(error)) from error
        finally:
            container.close()
        deadline.check()
        if file.error is not None:
            raise MediaError(name, "unreadable", one_line(file.error))
        if content.stamp() != before:
            raise MediaError(name, "changed", CHANGED)


def _open_av(name: str, content: Content, file: NamelessFile, deadline: Deadline, limits: Limits) -> InputContainer:
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "none",
        "max_pixels": str(limits.frame_pixels),
        "max_streams": str(limits.streams),
    }
    try:
        return av.open(file, "r", options=options, metadata_errors="replace", io_open=_refuse)
    except (FFmpegError, ValueError, OSError, MemoryError) as error:
        deadline.check()
        if file.error is not None:
            raise MediaError(name, "unreadable", one_line(file.error)) from error
        raise MediaError(name, *_why_not_opened(content, error)) from error


def _refuse(url: str, flags: int, options: dict[str, Any]) -> NoReturn:
    """Refuse to open what a file refers to."""
    raise ValueError("the file refers to another file or address")


def _why_not_opened(content: Content, error: Exception) -> tuple[MediaReason, str]:
    if isinstance(error, MemoryError):
        return "too_large", one_line(error)
    head = content.read_at(0, 16)
    if any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
        return "truncated", one_line(error)
    if getattr(error, "errno", None) == errno.EINVAL:  # FFmpeg's error for a format that is not listed
        return "not_media", _NOT_ALLOWED
    return "not_media", one_line(error)


def _apply_limits(container: InputContainer, path: str, limits: Limits) -> None:
    """Apply `limits` to the header's values and to each decoder."""
    if len(container.streams) > limits.streams:
        raise MediaError(path, "too_large", f"{len(container.streams)} streams, at most {limits.streams}")
    duration = trusted_duration(container)
    if duration is not None and duration > limits.duration_s:
        raise MediaError(path, "too_long", f"{duration:.0f} s, at most {limits.duration_s:.0f}")
    for stream in container.streams:
        context = stream.codec_context
        if context is None:  # no decoder
            continue
        if isinstance(stream, VideoStream):
            pixels = stream.codec_context.width * stream.codec_context.height
            if pixels > limits.frame_pixels:
                raise MediaError(path, "too_large", f"{pixels} pixels a frame, at most {limits.frame_pixels}")
            if duration is not None and stream.frames > limits.frames:
                raise MediaError(path, "too_large", f"{stream.frames} frames, at most {limits.frames}")
            context.options = {"max_pixels": str(limits.frame_pixels)}
        if isinstance(stream, AudioStream) and stream.codec_context.sample_rate > limits.sample_rate:
            rate = stream.codec_context.sample_rate
            raise MediaError(path, "too_large", f"{rate} samples a second, at most {limits.sample_rate}")
        if stream.type in ("video", "audio"):
            context.thread_count = 1


def one_line(error: BaseException) -> str:
    """The error's message in one line, without FFmpeg's number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
