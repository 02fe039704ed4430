"""Every error a person may meet: one line saying what was wrong, where, and what to do."""

from __future__ import annotations

from typing import Literal, get_args

MediaReason = Literal[
    "unreadable",  # the operating system refuses it, or it is not a regular file
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
    """Work failed for a reason a person can act on. The program ends with `exit_code` and the message alone."""

    exit_code = 1


class UsageError(MmattnError):
    """What was asked for cannot be done: a wrong verb, key, value, path, manifest or label."""

    exit_code = 2


class Stopped(MmattnError):
    """Work was asked to stop by a signal and did, with what was done kept; `exit_code` is 128 + the signal."""


class Unheard(MmattnError):
    """The first process of a run failed and says why; the others end with it and say nothing."""

    @classmethod
    def with_code(cls, exit_code: int) -> Unheard:
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


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where tracebacks name the cause; or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
