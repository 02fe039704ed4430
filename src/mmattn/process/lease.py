"""A lease: one holder at a time for a piece of work, among processes and hosts that share a folder. No flock.

The lease is a small folder of numbered files, and the file with the highest number is the holder's. Two rules make it
safe on NFS and under any order of events:

- Numbers only grow. A lease is taken by creating the next number with O_EXCL, so one of several attempts succeeds. The
  file with the highest number is never removed: a process that acted on an old state finds a higher one and gives up.
- A holder writes only to its own file. A holder that lost the lease meanwhile (stopped, suspended) changes nothing.

The holder touches its file every `beat_s`. The lease is free when it was released, when the holder's process has
ended (checked on its own host), when Slurm restarted the holder's job, or when it was not touched for `stale_s`. That
age is between two times of the file server, so clocks of hosts do not matter. It counts only if no touch follows
within three beats, so a clock that jumps or a machine that wakes up does not matter either.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mmattn.errors import UsageError
from mmattn.process.owner import describe_self, is_dead, is_requeued

HELD, FREE = b"held\n", b"free\n"  # how the file begins; equally long, so that one write changes the state


@dataclass(frozen=True)
class _Seen:
    """The file of one holder as it was read."""

    number: int
    free: bool
    touched_ns: int
    owner: Mapping[str, Any]  # empty while it is being written


class Lease:
    """`with Lease(path) as lease:` or `take()` and `release()`. `path` is a folder of its own, made when needed.

    `stale_s`: how long a holder may go without touching its file; far longer than a process is ever paused.
    """

    def __init__(self, path: Path | str, *, beat_s: float = 5.0, stale_s: float = 60.0) -> None:
        if not 0 < 2 * beat_s <= stale_s:
            raise ValueError(f"a lease of stale_s={stale_s} needs at least two beats of beat_s={beat_s}")
        self.path = Path(path)
        self.beat_s, self.stale_s = beat_s, stale_s
        self._number = 0
        self._fd = -1
        self._pid = 0
        self._beaten = 0.0
        self._lost = True  # nothing is held yet
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self) -> bool:
        """Try to take the lease; returns whether it is ours. Taking over a lapsed lease waits three beats to be sure.

        Raises OSError where the folder cannot be written.
        """
        if not self.lost():
            return True
        self._forget()
        for _ in range(2):
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the last holder has just removed the folder
                return self._take()
        return False

    def _take(self) -> bool:
        last = self._last()
        if last is not None and not self._lapsed(last):
            return False
        number, begun = (last.number + 1 if last else 1), _now()
        if (fd := self._create(number)) is None:
            return False
        for earlier in self._numbers():
            if earlier < number:
                self._file(earlier).unlink(missing_ok=True)
        self._number, self._fd, self._pid = number, fd, os.getpid()
        self._lost, self._beaten = False, begun
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, args=(self._over,), name="lease", daemon=True)
        self._beating.start()
        return True

    def lost(self, *, now: bool = False) -> bool:
        """Whether the lease is not ours: never taken, released, or taken over.

        It costs nothing while the last beat is recent, so it can be called at each step. `now`: look at the folder,
        before something is written that belongs to the holder.
        """
        if self._pid != os.getpid():  # a fork of the holder is not the holder
            return True
        if not self._lost and (now or _now() - self._beaten > self.stale_s / 2):
            self._lost = not self._is_last()
        return self._lost

    def is_held(self) -> bool:
        """Whether any process holds it. Waits, as `take` does, only where the holder seems to have stopped."""
        try:
            last = self._last()
            return last is not None and not self._lapsed(last)
        except FileNotFoundError:  # removed by the last holder
            return False

    def holder(self) -> str:
        """The holder, for messages: process, host, since when, and how long ago it touched its file."""
        last = self._last()
        if last is None or last.free:
            return "nobody"
        silent = max(0.0, (self._server_ns() - last.touched_ns) / 1e9)
        sign = f"last sign of life {silent:.0f} s ago"
        if not last.owner:
            return f"a process that has just begun ({sign})"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.owner["since"]))
        job = f", Slurm job {last.owner['job']}" if last.owner.get("job") else ""
        return f"process {last.owner['pid']} on {last.owner['host']}{job} since {since} ({sign})"

    def release(self, *, done: bool = False) -> None:
        """Release it for others. No effect on a lease that is no longer ours.

        `done`: also remove its folder.
        """
        if self._pid != os.getpid():
            return
        ours = done and not self.lost() and self._is_last()
        if self._beating is not None:
            self._over.set()
            self._beating.join()
        if ours:  # renamed while still held, so that nobody takes a lease that is being removed
            removed = self.path.with_name(f".{secrets.token_hex(6)}.part")
            with suppress(OSError):
                self.path.rename(removed)
                shutil.rmtree(removed, ignore_errors=True)
        with suppress(OSError):  # a file server forgets a file that another holder removed
            os.pwrite(self._fd, FREE, 0)
        self._forget()

    def __enter__(self) -> Lease:
        if not self.take():
            raise UsageError(f"{self.path}: held by {self.holder()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _create(self, number: int) -> int | None:
        """Create and open the file of that number; None when another process was first."""
        try:
            fd = os.open(self._file(number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return None
        late = True
        try:
            mine = {**describe_self(), "beat_s": self.beat_s, "stale_s": self.stale_s}
            os.write(fd, HELD + json.dumps(mine).encode())
            os.fsync(fd)
            late = max(self._numbers(), default=0) != number  # other holders came and went meanwhile
        finally:
            if late:
                os.close(fd)
                self._file(number).unlink(missing_ok=True)
        return None if late else fd

    def _forget(self) -> None:
        self._over.set()
        if self._pid == os.getpid() and self._fd >= 0:
            os.close(self._fd)
        self._fd, self._pid, self._lost, self._beating = -1, 0, True, None

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self.beat_s):
            begun = _now()
            try:
                self._lost = not self._is_last()
                if self._lost:
                    return
                os.utime(self._fd)
            except OSError:  # the server does not answer: retry at the next beat
                continue
            self._beaten = begun

    def _is_last(self) -> bool:
        return max(self._numbers(), default=0) == self._number

    def _numbers(self) -> list[int]:
        try:
            self._server_ns()  # touches the folder, so that NFS does not answer from its cache
            return [int(name) for entry in self.path.iterdir() if (name := entry.name).isdecimal()]
        except FileNotFoundError:
            return []

    def _file(self, number: int) -> Path:
        return self.path / str(number)

    def _last(self) -> _Seen | None:
        """The holder's file. It is opened, not only looked up, because only then NFS asks the server."""
        while numbers := self._numbers():
            try:
                with self._file(max(numbers)).open("rb") as file:
                    touched, text = os.fstat(file.fileno()).st_mtime_ns, file.read()
            except FileNotFoundError:  # taken over between the two lines
                continue
            try:
                owner = json.loads(text[len(HELD) :])
            except ValueError:
                owner = {}
            return _Seen(max(numbers), text.startswith(FREE), touched, owner)
        return None

    def _server_ns(self) -> int:
        """The current time of the clock that stamps the holder's file."""
        with suppress(PermissionError):  # without write access, its last change is used
            os.utime(self.path)
        return self.path.stat().st_mtime_ns

    def _lapsed(self, last: _Seen) -> bool:
        if last.free or is_dead(last.owner) or is_requeued(last.owner):
            return True
        stale_s, beat_s = last.owner.get("stale_s", self.stale_s), last.owner.get("beat_s", self.beat_s)
        if abs(self._server_ns() - last.touched_ns) <= stale_s * 1e9:
            return False
        until = _now() + 3 * beat_s
        while _now() < until:
            time.sleep(beat_s / 4)
            again = self._last()
            if again is None or (again.number, again.touched_ns) != (last.number, last.touched_ns):
                return False
        return True


def _now() -> float:
    """Seconds of a clock that cannot be set, and that also runs while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
