"""read_clip in a separate process: a crash or hang of the decoder costs only one file.

A worker that dies is replaced, and the new one reads the file again. A file is `crashed` only after two workers have
died on it: one may die for another reason, such as the kernel's lack of memory or `kill -9`. The death of a worker that
had not begun on the file is not counted against it. Errors that the decoder reports itself, such as too little memory
or time, are final at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from mmattn.errors import MEDIA_REASONS, MediaError, MmattnError
from mmattn.media.isolate.cancel import Cancellation
from mmattn.media.isolate.child import Child
from mmattn.media.isolate.wire import Message, unpack
from mmattn.media.isolate.worker import OUT_OF_MEMORY
from mmattn.media.open.container import Limits
from mmattn.media.open.source import Source, as_descriptor, name_of
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.record import Depth, Survey

if TYPE_CHECKING:
    from mmattn.types import Clip

_GRACE_S = 2.0  # beyond the decoder's own deadline: only a native hang takes longer
_CRASHES = 2  # on one file, after which the file is at fault
_STARTS = 10  # workers that died before they began, after which the machine is at fault
_T = TypeVar("_T")


class _Died(Exception):
    """A worker has died. `begun`: after it had begun on the file."""

    def __init__(self, error: MediaError, begun: bool) -> None:
        self.error = error
        self.begun = begun


@dataclass(frozen=True)
class Sandbox:
    """`layers`: those that the kernel grants, see sandbox.py. `refused`: whether it refused each attempt."""

    layers: list[str]
    refused: dict[str, bool]


class IsolatedReader:
    """Reads clips in a worker process with a deadline and resource limits. One thread at a time.

    `deadline_s`: wall time for one file, after which the worker is killed. `memory_bytes`: what decoding one file may
    map beyond the idle process. `cpu_s`: CPU time for one file, None = the deadline. `beneath`: see source.opened.
    `cancellation`: cancels the next reads; it may be replaced between them.
    """

    def __init__(
        self,
        *,
        deadline_s: float = 60.0,
        memory_bytes: int = 4 << 30,
        cpu_s: float | None = None,
        limits: Limits | None = None,
        follow_symlinks: bool = False,
        beneath: Path | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._resources = {"memory_bytes": memory_bytes, "cpu_s": deadline_s if cpu_s is None else cpu_s}
        self._limits = limits or Limits()
        self._links = {"follow_symlinks": follow_symlinks, "beneath": beneath}
        self._child: Child | None = None
        self._busy = False
        self.cancellation = Cancellation()

    def read(self, src: Source, request: Request) -> Clip:
        """As read_clip with the arguments of `request`.

        Also raises MediaError "crashed" or "timeout" where the worker died or had to be killed, and Cancelled.
        """
        return self._clip(src, {"request": asdict(request)})

    def bundle(self, src: Source, request: Request) -> Clip:
        """As read_bundle(request, src); raises as `read` does."""
        return self._clip(src, {"bundle": asdict(request)})

    def _clip(self, src: Source, fields: dict[str, Any]) -> Clip:
        message = self._one(src, fields)
        return _checked(src, lambda: unpack(message.head, message.samples, name_of(src)).clip())

    def windows(self, src: Source, windows: Windows) -> Iterator[Clip]:
        """As iter_windows with the arguments of `windows`; raises as `read` does.

        Deadline and CPU time are for each window. While one is used, the next is already decoded.
        """
        fields = asdict(windows)  # with its request and views
        for message in self._messages(src, fields):
            if message.head:
                yield _checked(src, lambda message=message: unpack(message.head, message.samples, name_of(src)).clip())

    def survey(self, src: Source, depth: Depth) -> Survey:
        """What the function survey returns; raises as `read` does."""
        message = self._one(src, {"survey": depth})
        return _checked(src, lambda: Survey.from_dict(message.head))

    def sandbox(self) -> Sandbox:
        """What the present worker cannot do, found by trying."""
        with closing(self._messages_once("", {"sandbox": True}, [])) as messages:
            return Sandbox(**next(messages).head)

    def _one(self, src: Source, fields: dict[str, Any]) -> Message:
        with closing(self._messages(src, fields)) as messages:
            return next(messages)

    def _messages(self, src: Source, fields: dict[str, Any]) -> Generator[Message]:
        """The messages that answer a request, from a second worker where the first has died."""
        path = name_of(src)
        if self._busy:
            raise MmattnError(f"{path}: this reader has an open iterator of windows; close it or use another reader")
        self._busy, given, crashes, starts = True, 0, 0, 0
        try:
            with as_descriptor(src, **self._links) as (description, descriptors):
                how = {"limits": asdict(self._limits), "deadline_s": self._deadline_s, "source": description}
                while True:
                    try:
                        request = fields | how | self._resources
                        with closing(self._messages_once(path, request, descriptors)) as messages:
                            for number, message in enumerate(messages):
                                if number == given:  # the earlier ones came from the worker that died
                                    given += 1
                                    yield message
                        return
                    except _Died as death:
                        crashes, starts = crashes + death.begun, starts + (not death.begun)
                        if death.error.reason != "crashed" or crashes == _CRASHES:
                            raise death.error from None
                        if starts == _STARTS:
                            raise MmattnError(
                                f"decoding processes die during their start: {death.error.detail}"
                            ) from None
        finally:
            self._busy = False

    def _messages_once(self, path: str, request: dict[str, Any], descriptors: list[int]) -> Generator[Message]:
        """The messages of one worker, which is ended if it is left with unread ones."""
        child, cancellation = self._started(), self.cancellation
        within_s = self._deadline_s + _GRACE_S
        begun, more, status = False, True, None
        try:
            with cancellation.covering(child.interrupt):
                child.send(request, descriptors, within_s)
                while more and (message := child.receive(2 * self._limits.decoded_bytes + (1 << 20), within_s)):
                    more = bool(message.head.pop("more", False))
                    if "failed" in message.head:
                        reason, detail = message.head["failed"], str(message.head.get("detail"))
                        error = MediaError(path, reason if reason in MEDIA_REASONS else "crashed", detail)
                        if error.reason != "crashed":
                            raise error
                        more = True  # reported by the worker, but still a crash
                        raise _Died(error, begun)
                    if begun:
                        yield message
                    begun = True  # the first message says only that
        except TimeoutError:
            raise MediaError(path, "timeout", f"not read within {self._deadline_s} s, worker killed") from None
        finally:
            if (more or child.interrupted) and self._child is child:
                status = self._renew(child)
        if more:
            cancellation.check()
            raise _Died(_death(path, signal.SIGKILL if status is None else status), begun)

    def _renew(self, child: Child) -> int | None:
        """Start a new worker; returns the old one's wait status. None: the nursery has died, and its worker with it."""
        status = child.renew()
        if status is None:
            self.close()
        return status

    @property
    def worker_pid(self) -> int:
        """The process id of the present worker, which is started if needed."""
        return self._started().pid

    def interrupt(self) -> None:
        """End the read in progress, from another thread; it raises Cancelled. Without effect between reads."""
        present, self.cancellation = self.cancellation, Cancellation()
        present.cancel()

    def _started(self) -> Child:
        if self._child is not None and self._child.owner != os.getpid():
            self._child.close()  # forked: the worker belongs to the parent process
            self._child = None
            self.cancellation = Cancellation()  # whose lock another thread of the parent may have held
        if self._child is None:
            child = Child()
            if child.renew() is None:
                child.close()
                raise MmattnError("the decoding process died during its start; its error message is above")
            self._child = child
        return self._child

    def close(self) -> None:
        """End the worker. The reader can be used again and then starts a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "cancellation"}
        return state | {"_child": None, "_busy": False}  # a copy in another process starts its own worker

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.cancellation = Cancellation()


def _checked(src: Source, make: Callable[[], _T]) -> _T:
    """The result of `make` from a worker's answer, which may be invalid if a hostile file controls the worker."""
    try:
        return make()
    except ValueError as error:
        raise MediaError(name_of(src), "crashed", f"the worker's answer is invalid: {error}") from None


def _death(path: str, status: int) -> MediaError:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return MediaError(path, "timeout", "out of CPU time")
    if os.WIFSIGNALED(status):
        return MediaError(path, "crashed", f"worker ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if os.waitstatus_to_exitcode(status) == OUT_OF_MEMORY:
        return MediaError(path, "too_large", "out of memory")
    return MediaError(path, "crashed", f"worker exited with status {os.waitstatus_to_exitcode(status)}")
