"""read_clip in a process of its own: a crash or a hang of the decoder costs one file.

A worker that dies is replaced, and a fresh one is asked once more. Only a file on which two workers have died is
`crashed`: one may have died of something else, the kernel's lack of memory or somebody's `kill -9`. A worker that dies
before it has begun on the file says nothing about it. What the decoder says itself, that there is too little memory
or time, is believed at once.
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
from mmattn.media.open.source import Source, handed_over, name_of
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.record import Depth, Survey

if TYPE_CHECKING:
    from mmattn.types import Clip

_GRACE_S = 2.0  # the decoder's own deadline fires first; only a native hang outlasts it by this much
_CRASHES = 2  # on one file, and it is the file
_STARTS = 10  # workers that died before they began: it is the machine
_T = TypeVar("_T")


class _Died(Exception):
    """A worker has died. `begun`: it was at work on the file."""

    def __init__(self, error: MediaError, begun: bool) -> None:
        self.error = error
        self.begun = begun


@dataclass(frozen=True)
class Sandbox:
    """`layers`: what the kernel gave, see the module of that name. `refused`: whether it refused each attempt."""

    layers: list[str]
    refused: dict[str, bool]


class IsolatedReader:
    """Reads clips in a worker process with a deadline and resource limits. Not for several threads at once.

    `deadline_s`: wall time for one file, after which the worker is killed. `memory_bytes`: what decoding one file may
    map beyond the idle process. `cpu_s`: processor time for one file, None = the deadline. `beneath`: see open_source.
    `cancellation`: what the reads to come are for; it may be replaced between them.
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
        self._asking = False
        self.cancellation = Cancellation()

    def read(self, src: Source, request: Request) -> Clip:
        """What read_clip(src, ...) with the arguments of `request` returns.

        Raises what it raises, MediaError "crashed" or "timeout" where the worker died or had to be killed, and
        Cancelled.
        """
        return self._clip(src, {"request": asdict(request)})

    def bundle(self, src: Source, request: Request) -> Clip:
        """What read_bundle(request, src) returns; raises as `read` does."""
        return self._clip(src, {"bundle": asdict(request)})

    def _clip(self, src: Source, asked: dict[str, Any]) -> Clip:
        message = self._one(src, asked)
        return _sense(src, lambda: unpack(message.head, message.samples, name_of(src)).clip())

    def windows(self, src: Source, windows: Windows) -> Iterator[Clip]:
        """What iter_windows(src, ...) with the arguments of `windows` gives; raises as `read` does.

        The deadline and the processor time are for each window. While one is used, the next is already decoded.
        """
        asked = asdict(windows)  # its request and views too
        for message in self._ask(src, asked):
            if message.head:
                yield _sense(src, lambda message=message: unpack(message.head, message.samples, name_of(src)).clip())

    def survey(self, src: Source, depth: Depth) -> Survey:
        """What survey(src, depth) returns; raises as `read` does."""
        message = self._one(src, {"survey": depth})
        return _sense(src, lambda: Survey.from_dict(message.head))

    def sandbox(self) -> Sandbox:
        """What the present worker may not do, by its own trying."""
        with closing(self._ask_once("", {"sandbox": True}, [])) as messages:
            return Sandbox(**next(messages).head)

    def _one(self, src: Source, asked: dict[str, Any]) -> Message:
        with closing(self._ask(src, asked)) as messages:
            return next(messages)

    def _ask(self, src: Source, asked: dict[str, Any]) -> Generator[Message]:
        """The messages that answer a question, from a second worker where the first has died."""
        path = name_of(src)
        if self._asking:
            raise MmattnError(f"{path}: this reader is still giving the windows of a file; close them or take another")
        self._asking, given, crashes, starts = True, 0, 0, 0
        try:
            with handed_over(src, **self._links) as (told, descriptors):
                how = {"limits": asdict(self._limits), "deadline_s": self._deadline_s, "source": told}
                while True:
                    try:
                        with closing(self._ask_once(path, asked | how | self._resources, descriptors)) as messages:
                            for number, message in enumerate(messages):
                                if number == given:  # those before it were given by the worker that died
                                    given += 1
                                    yield message
                        return
                    except _Died as death:
                        crashes, starts = crashes + death.begun, starts + (not death.begun)
                        if death.error.reason != "crashed" or crashes == _CRASHES:
                            raise death.error from None
                        if starts == _STARTS:
                            raise MmattnError(f"decoding processes die as they start: {death.error.detail}") from None
        finally:
            self._asking = False

    def _ask_once(self, path: str, question: dict[str, Any], descriptors: list[int]) -> Generator[Message]:
        """The messages of one worker. One that is left with more to say, for any reason, is ended."""
        child, cancellation = self._started(), self.cancellation
        within_s = self._deadline_s + _GRACE_S
        begun, more, status = False, True, None
        try:
            with cancellation.covering(child.interrupt):
                child.ask(question, descriptors, within_s)
                while more and (message := child.hear(2 * self._limits.decoded_bytes + (1 << 20), within_s)):
                    more = bool(message.head.pop("more", False))
                    if "failed" in message.head:
                        reason, detail = message.head["failed"], str(message.head.get("detail"))
                        error = MediaError(path, reason if reason in MEDIA_REASONS else "crashed", detail)
                        if error.reason != "crashed":
                            raise error
                        more = True  # of its own accord, but a crash all the same
                        raise _Died(error, begun)
                    if begun:
                        yield message
                    begun = True  # that is all that the first message says
        except TimeoutError:
            raise MediaError(path, "timeout", f"not read within {self._deadline_s} s, worker killed") from None
        finally:
            if (more or child.interrupted) and self._child is child:
                status = self._renew(child)
        if more:
            cancellation.check()
            raise _Died(_death(path, signal.SIGKILL if status is None else status), begun)

    def _renew(self, child: Child) -> int | None:
        """Its wait status. None: the whole nursery is gone, and the worker was killed with it."""
        status = child.renew()
        if status is None:
            self.close()
        return status

    @property
    def worker_pid(self) -> int:
        """The present worker's process id; starts it if need be."""
        return self._started().pid

    def interrupt(self) -> None:
        """From another thread: end the read that is under way; it raises Cancelled. Between reads it does nothing."""
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
                raise MmattnError("the decoding process died as it started; its own message is above")
            self._child = child
        return self._child

    def close(self) -> None:
        """End the worker. The reader may be used again, with a new one."""
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
        return state | {"_child": None, "_asking": False}  # a copy in another process starts its own worker

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.cancellation = Cancellation()


def _sense(src: Source, make: Callable[[], _T]) -> _T:
    """What `make` makes of an answer; a worker that a file took over may say anything."""
    try:
        return make()
    except ValueError as error:
        raise MediaError(name_of(src), "crashed", f"the worker's answer makes no sense: {error}") from None


def _death(path: str, status: int) -> MediaError:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return MediaError(path, "timeout", "out of processor time")
    if os.WIFSIGNALED(status):
        return MediaError(path, "crashed", f"worker ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if os.waitstatus_to_exitcode(status) == OUT_OF_MEMORY:
        return MediaError(path, "too_large", "out of memory")
    return MediaError(path, "crashed", f"worker exited with status {os.waitstatus_to_exitcode(status)}")
