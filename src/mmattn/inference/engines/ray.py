"""engine=ray: actors of a Ray cluster, each with the model and decoding processes of its own, one shard at a time.

Ray only places the actors and tells which have died: what is answered, and what is tried again, is in the job's folder
as with every engine. An exception costs the file that raised it, inside the actor. An actor that dies, with its node or
by a signal, is replaced, and its shard goes on where the journal ends. Actors end with the process that began them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError, UsageError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import Orders, Tally, hopeless
from mmattn.inference.jobs.shard import Answering, answer_shard
from mmattn.process.openmp import cores
from mmattn.progress import Progress

Load = Callable[[Job, int, str], AbstractContextManager[Answering]]
FAILED_STARTS = 3  # deaths before any actor was ready: it is not the files
_LOOK_S = 1.0
_STORE_BYTES = 80 << 20  # the least that Ray takes; nothing of ours passes through it


@dataclass(frozen=True)
class RayEngine:
    """`address`: of a cluster, None for a Ray of this process; one that it is connected to already is used.

    `actors`: at once at most, 0: as many as there is room for; each with `cpus` cores and `gpus` GPUs.
    """

    address: str | None
    actors: int
    cpus: int
    gpus: float

    def __post_init__(self) -> None:
        for key, least in (("actors", 0), ("cpus", 1), ("gpus", 0)):
            if getattr(self, key) < least:
                raise UsageError(f"engine.{key}={getattr(self, key)}: expected {least} or more")

    def run(self, job: Job, shards: Sequence[int], load: Load | None = None) -> None:
        """Raises UsageError without Ray or room for an actor, MmattnError where work cannot go on."""
        device = _device(str(job.settings()["device"]), self.gpus)
        with _connected(self.address) as ray:
            count = min(self._room(ray.cluster_resources()), len(shards))
            kind = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(Holder)
            given = str(job.root.absolute()), job.settings()["decoders"] or self.cpus, device, load or _load
            tally = Tally(job, shards)
            with Progress("predicting", tally.total) as progress:
                _Driver(job, shards, ray, lambda: kind.remote(*given)).run(count, tally, progress)

    def _room(self, found: dict[str, float]) -> int:
        """How many actors. Raises UsageError for none."""
        room = int(found.get("CPU", 0) // self.cpus)
        if self.gpus:
            room = min(room, int(found.get("GPU", 0) / self.gpus))
        if room < 1:
            there = f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
            raise UsageError(f"engine.cpus={self.cpus} engine.gpus={self.gpus}: Ray has {there}")
        return min(room, self.actors) if self.actors else room


class Holder:
    """The actor. It raises nothing: what its methods return says what went wrong, and as whose fault."""

    def __init__(self, root: str, decoders: int, device: str, load: Load) -> None:
        self._job = Job(Path(root))
        self._load = lambda: load(self._job, decoders, device)
        self._held = ExitStack()

    def ready(self) -> dict[str, Any]:
        """Load the model."""
        return _said(self._begin)

    def do(self, shard: int, alone_until: int) -> dict[str, Any]:
        """Its result is False where a process of another command works on the shard."""
        return _said(lambda: answer_shard(self._job, shard, self._answering, lambda message: None, alone_until))

    def _begin(self) -> int:
        self._answering = self._held.enter_context(self._load())
        return self._answering.ahead


class _Driver:
    def __init__(self, job: Job, shards: Sequence[int], ray: Any, start: Callable[[], Any]) -> None:
        self.job = job
        self.ray = ray
        self.start = start
        self.orders = Orders(job, shards)
        self.asked: dict[Any, _Asked] = {}  # by the reference of what it will say
        self.begun = False  # an actor was ready once
        self.failed_starts = 0

    def run(self, count: int, tally: Tally, progress: Progress) -> None:
        for _ in range(count):
            self._hire()
        try:
            while self.orders.left:
                if self.asked:
                    for reference in self.ray.wait(list(self.asked), timeout=_LOOK_S)[0]:
                        self._handle(self.asked.pop(reference), reference)
                else:  # others do all that is left
                    time.sleep(_LOOK_S)
                self.orders.look_again()
                while self.orders.waiting > self._starting and len(self.asked) < count:
                    self._hire()
                progress.at(tally.answered(), failed=tally.failed)
            self.job.tidy()
        finally:
            for each in self.asked.values():
                self.ray.kill(each.actor)

    def _hire(self) -> None:
        actor = self.start()
        self.asked[actor.ready.remote()] = _Asked(actor)

    @property
    def _starting(self) -> int:
        return sum(asked.shard is None for asked in self.asked.values())

    def _handle(self, asked: _Asked, reference: Any) -> None:
        try:
            said = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            died = isinstance(error, self.ray.exceptions.RayActorError)
            if not died or error.actor_init_failed:  # a node without mmattn, say
                raise MmattnError(f"engine=ray: {_last_line(error)}") from None
            self._died(asked, f"({_last_line(error)})")
            return
        if "error" in said:
            error = MmattnError(said["error"])
            error.exit_code = said["exit_code"]
            raise error
        if asked.shard is None:
            asked.ahead, self.begun = said["result"], True
        elif said["result"]:
            self.orders.answered()
            self.orders.finished()
        else:
            self.orders.held(asked.shard)
        if order := self.orders.next():
            asked.shard, asked.alone_until = order
            asked.done = self.job.done_count(asked.shard)
            self.asked[asked.actor.do.remote(*order)] = asked
        else:
            self.ray.kill(asked.actor)

    def _died(self, asked: _Asked, how: str) -> None:
        """It has died. Its shard goes on with another actor."""
        self.failed_starts += not self.begun
        if self.failed_starts >= FAILED_STARTS:
            raise hopeless(self.job, how)
        alone = None
        if asked.shard is not None:
            done = self.job.done_count(asked.shard)
            if done > asked.done:
                self.orders.answered()
            if done < min(asked.alone_until, self.job.count(asked.shard)):
                alone = self.job.entries(asked.shard)[done].id
        self.orders.died(how, asked.shard, alone, asked.ahead)


@dataclass
class _Asked:
    """An actor that was asked something."""

    actor: Any
    shard: int | None = None  # None: to get ready
    alone_until: int = 0
    done: int = 0  # entries of the shard that were answered when it was asked
    ahead: int = 1


def _load(job: Job, decoders: int, device: str) -> AbstractContextManager[Answering]:
    from mmattn.inference.engines.answering import answering

    return answering(job, decoders, device)


def _said(do: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": do()}
    except MmattnError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {_last_line(error)}", "exit_code": 1}


def _device(asked: str, gpus: float) -> str:
    """Ray shows an actor its own GPUs alone, the first as 0."""
    if asked.startswith("cuda") and not gpus:
        raise UsageError(f"device={asked} with engine=ray needs engine.gpus=1")
    return ("cuda:0" if gpus else "cpu") if asked in ("auto", "cuda") else asked


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected. One of its own is reached from this machine alone, reports nothing and leaves nothing behind."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on every system: loopback, no other machine
    try:
        import ray
        from ray.job_config import JobConfig
    except ImportError:
        raise UsageError("engine=ray needs Ray: pip install 'mmattn[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    from ray.job_config import JobConfig

    # As of a client: else Ray puts the current folder in front of the path of every actor.
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "job_config": JobConfig(_client_job=True)}
    temporary = None
    try:
        if address is None:
            temporary = tempfile.mkdtemp(prefix="mmattn-ray-")  # Ray's sockets need a short path
            own = {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            ray.init(**own, **quiet, _temp_dir=temporary)
        else:
            ray.init(address, **quiet)
        yield ray
    except ConnectionError as error:
        raise UsageError(f"engine.address={address}: {_last_line(error)}") from None
    finally:
        ray.shutdown()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
