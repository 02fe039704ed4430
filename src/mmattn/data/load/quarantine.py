"""The unreadable clips of a run: listed once with their reasons, not tried again, limited in number."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmattn.data.load.cache import EXCLUDED, FAILED, UNTRIED
from mmattn.data.load.limit import ENOUGH, is_above
from mmattn.errors import MediaError, MmattnError
from mmattn.text import counted


class Quarantine:
    """Bad clips by id. A run stops when more than `max_fraction` of the clips of a split are bad.

    `keep_in` sets the file (JSON lines: id, path, reason, detail) that all processes of a run share and that a resumed
    run continues. It is only appended to; lines of other processes are read from where the last read ended.
    """

    def __init__(self, max_fraction: float) -> None:
        self.max_fraction = max_fraction
        self.reasons: dict[str, dict[str, str]] = {}
        self.elsewhere: list[str] = []  # clips listed by other processes, in this order
        self._file: Path | None = None
        self._read = 0  # bytes of the file that have been read

    def keep_in(self, file: Path) -> None:
        """Write the clips known so far to `file`, and read those that it lists."""
        known = self.reasons
        self._file, self._read, self.reasons = file, 0, {}
        with self._opened() as descriptor:
            self._read_new(descriptor)
            self._append(descriptor, {name: record for name, record in known.items() if name not in self.reasons})
        self.elsewhere.clear()  # they were found before

    def refresh(self) -> None:
        """Read what other processes have appended."""
        if self._file is not None and self._file.is_file() and self._file.stat().st_size != self._read:
            with self._opened() as descriptor:
                self._read_new(descriptor)

    def add(self, name: str, error: MediaError) -> None:
        """List a clip, unless it is listed already."""
        if name in self.reasons:
            return
        record = {"path": error.path, "reason": error.reason, "detail": error.detail}
        if self._file is None:
            self.reasons[name] = record
            return
        with self._opened() as descriptor:
            self._read_new(descriptor)
            if name not in self.reasons:
                self._append(descriptor, {name: record})

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The locked file, for reading and appending."""
        assert self._file is not None
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # no locks on this file system: a line is still one write to its end
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read_new(self, descriptor: int) -> None:
        """Read the complete lines since the last read. One that is cut off (its process was killed) is ignored."""
        size = os.fstat(descriptor).st_size
        if size < self._read:  # another file by now
            self._read = 0
        while (left := size - self._read) > 0 and (data := os.pread(descriptor, min(left, 1 << 24), self._read)):
            whole = data.rfind(b"\n") + 1
            self._read += whole
            for line in data[:whole].splitlines():
                with contextlib.suppress(ValueError, KeyError, AttributeError):
                    record = json.loads(line)
                    if (name := record.pop("id")) not in self.reasons:
                        self.elsewhere.append(name)
                        self.reasons[name] = record
            if not whole:
                break

    def _append(self, descriptor: int, records: dict[str, dict[str, str]]) -> None:
        """Append lines in one write, under the lock and after reading all."""
        text = "".join(json.dumps({"id": name, **record}) + "\n" for name, record in records.items()).encode("ascii")
        size = os.fstat(descriptor).st_size
        text = b"\n" * (size > self._read and bool(text)) + text  # ends the line that was cut off
        while text:
            text = text[os.write(descriptor, text) :]
        self._read = os.fstat(descriptor).st_size if self._read == size else self._read
        self.reasons |= records

    def check(self, state: np.ndarray, elsewhere: Sequence[int] = (), world: int = 1) -> None:
        """Raise MmattnError if too many of the clips with these states (see ClipCache) are unreadable.

        `elsewhere`: clips that other processes found unreadable in this run; each of `world` processes is taken to have
        tried as many as this one. Too many: significantly more of those tried so far (see limit), or more of all clips,
        including those that were known before.
        """
        others = np.asarray(elsewhere, dtype=np.int64)
        others = others[state[others] != FAILED]
        failed = int((state == FAILED).sum()) + len(others)
        before = int((state == EXCLUDED).sum()) - int((state[others] == EXCLUDED).sum())
        here = int(((state != UNTRIED) & (state != EXCLUDED)).sum())
        tried = min(max(here * world, failed), len(state) - before)
        all_bad = failed + before
        for bad, clips, too_many in (
            (failed, tried, is_above(failed, tried, self.max_fraction)),
            (all_bad, len(state), len(state) >= ENOUGH and all_bad > self.max_fraction * len(state)),
        ):
            if too_many:
                where = f"; see {self._file}" if self._file else ""
                raise MmattnError(
                    f"{bad} of {counted(clips, 'clip')} could not be read, more than "
                    f"data.max_bad_fraction={self.max_fraction} allows (found so far: {self.summary()}){where}"
                )

    def left_out(self) -> str:
        """A summary for the log."""
        where = f"; all are listed in {self._file}" if self._file else ""
        return f"{counted(len(self.reasons), 'clip')} left out as unreadable ({self.summary()}){where}"

    def summary(self) -> str:
        """Counts by reason, and the first one in full."""
        reasons = Counter(record["reason"] for record in self.reasons.values())
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        first = next(iter(self.reasons.values()), None)
        return counts if first is None else f"{counts}, such as {first['path']}: {first['detail'] or first['reason']}"


def exclude(state: np.ndarray, names: Sequence[str], known: Quarantine) -> None:
    """Mark the untried clips that are listed in `known`."""
    if known.reasons:
        for index, name in enumerate(names):
            if name in known.reasons and state[index] != FAILED:
                state[index] = EXCLUDED
