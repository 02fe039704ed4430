"""Errors for users: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import errno
from typing import Literal, get_args

MediaReason = Literal[
    "unreadable",  # the operating system denies access, or it is not a regular file
    "not_media",  # no allowed container format recognises the bytes
    "no_streams",  # a container with neither a picture nor a sound stream that can be decoded
    "truncated",  # the container is cut off so that nothing can be decoded
    "unsupported_codec",  # no decoder, or the stream is encrypted
    "too_large",  # a frame, stream count or decoded size above the cap
    "too_long",  # a duration above the cap
    "timeout",  # decoding exceeded its deadline
    "crashed",  # the decoder's process died
    "changed",  # the file changed while it was read
]
MEDIA_REASONS: tuple[str, ...] = get_args(MediaReason)


class MmattnError(Exception):
    """Work failed for a reason that the user can act on. The program prints the message and exits with `exit_code`."""

    exit_code = 1


class UsageError(MmattnError):
    """The request cannot be carried out: a wrong verb, key, value, path, manifest or label."""

    exit_code = 2


class Stopped(MmattnError):
    """A signal stopped the work, and what was done is saved; `exit_code` is 128 + the signal."""


class PeerFailed(MmattnError):
    """The first process of a run failed and reports why; the others exit with the same code and print nothing."""

    @classmethod
    def with_code(cls, exit_code: int) -> PeerFailed:
        """The error of a process that exits as the first one does."""
        error = cls("see the first process")
        error.exit_code = exit_code
        return error


class MediaError(MmattnError):
    """One file cannot be read. Picklable, so that it crosses process borders whole."""

    def __init__(self, path: str, reason: MediaReason, detail: str = "") -> None:
        super().__init__(path, reason, detail)
        self.path = path
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


def os_line(error: OSError) -> str:
    """What the system refused, and where, in one line."""
    full = "; make room and run the same command again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{error.filename or 'system'}: {error.strerror or error}{full}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where tracebacks name the cause; or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
