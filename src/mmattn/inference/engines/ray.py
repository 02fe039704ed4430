"""engine=ray: actors of a Ray cluster, each with the model and its own decoding processes, one shard at a time.

Ray only places the actors and reports which have died. Records and retries are in the job's folder, as with every
engine. An exception fails the file that raised it, inside the actor. An actor that dies, with its node or by a signal,
is replaced, and its shard continues where the journal ends. Actors end with the process that started them.
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

from mmattn.errors import MmattnError, UsageError, last_line
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import JobProgress, ShardQueue, no_progress
from mmattn.inference.jobs.shard import EntryProcessor, process_shard
from mmattn.process.openmp import cores
from mmattn.progress import Progress

Load = Callable[[Job, int, str], AbstractContextManager[EntryProcessor]]
MAX_FAILED_STARTS = 3  # deaths before any actor was ready
_CHECK_S = 1.0
_STORE_BYTES = 80 << 20  # Ray's minimum; nothing of ours uses it


@dataclass(frozen=True)
class RayEngine:
    """`address`: of a cluster; None starts Ray on this machine. An existing connection is used.

    `actors`: most at once, 0: as many as fit; each has `cpus` cores and `gpus` GPUs.
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
        """Process `shards`. Raises UsageError without Ray or room for an actor, MmattnError if work cannot continue."""
        device = _device(str(job.settings()["device"]), self.gpus)
        with _connected(self.address) as ray:
            count = min(self._room(ray.cluster_resources()), len(shards))
            resources = {"num_cpus": self.cpus, "num_gpus": self.gpus}
            actor_class = ray.remote(**resources, max_restarts=0, max_task_retries=0)(ShardActor)
            given = str(job.root.absolute()), job.settings()["decoders"] or self.cpus, device, load or _load
            job_progress = JobProgress(job, shards)
            with Progress("predicting", job_progress.total) as progress:
                _Driver(job, shards, ray, lambda: actor_class.remote(*given)).run(count, job_progress, progress)

    def _room(self, found: dict[str, float]) -> int:
        """How many actors fit. Raises UsageError for none."""
        room = int(found.get("CPU", 0) // self.cpus)
        if self.gpus:
            room = min(room, int(found.get("GPU", 0) / self.gpus))
        if room < 1:
            resources = f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
            raise UsageError(f"engine.cpus={self.cpus} engine.gpus={self.gpus}: Ray has {resources}")
        return min(room, self.actors) if self.actors else room


class ShardActor:
    """The actor. Its methods raise nothing: they return {"result"}, or {"error", "exit_code"}."""

    def __init__(self, root: str, decoders: int, device: str, load: Load) -> None:
        self._job = Job(Path(root))
        self._load = lambda: load(self._job, decoders, device)
        self._open = ExitStack()

    def ready(self) -> dict[str, Any]:
        """Load the model."""
        return _outcome(self._begin)

    def do(self, shard: int, alone_until: int) -> dict[str, Any]:
        """Process a shard; the result is False if a process of another command holds it."""
        return _outcome(lambda: process_shard(self._job, shard, self._processor, lambda message: None, alone_until))

    def _begin(self) -> int:
        self._processor = self._open.enter_context(self._load())
        return self._processor.ahead


class _Driver:
    def __init__(self, job: Job, shards: Sequence[int], ray: Any, start: Callable[[], Any]) -> None:
        self.job = job
        self.ray = ray
        self.start = start
        self.queue = ShardQueue(job, shards)
        self.requests: dict[Any, _Request] = {}  # by the reference of its result
        self.has_started = False  # an actor was ready once
        self.failed_starts = 0

    def run(self, count: int, job_progress: JobProgress, progress: Progress) -> None:
        for _ in range(count):
            self._start_actor()
        try:
            while self.queue.left:
                if self.requests:
                    for reference in self.ray.wait(list(self.requests), timeout=_CHECK_S)[0]:
                        self._handle(self.requests.pop(reference), reference)
                else:  # others hold all that is left
                    time.sleep(_CHECK_S)
                self.queue.check_held()
                while self.queue.waiting > self._starting and len(self.requests) < count:
                    self._start_actor()
                progress.at(job_progress.done(), failed=job_progress.failed)
            self.job.tidy()
        finally:
            for each in self.requests.values():
                self.ray.kill(each.actor)

    def _start_actor(self) -> None:
        actor = self.start()
        self.requests[actor.ready.remote()] = _Request(actor)

    @property
    def _starting(self) -> int:
        return sum(request.shard is None for request in self.requests.values())

    def _handle(self, request: _Request, reference: Any) -> None:
        try:
            outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            died = isinstance(error, self.ray.exceptions.RayActorError)
            if not died or error.actor_init_failed:  # such as a node without mmattn
                raise MmattnError(f"engine=ray: {last_line(error)}") from None
            self._died(request, f"({last_line(error)})")
            return
        if "error" in outcome:
            error = MmattnError(outcome["error"])
            error.exit_code = outcome["exit_code"]
            raise error
        if request.shard is None:
            request.ahead, self.has_started = outcome["result"], True
        elif outcome["result"]:
            self.queue.progressed()
            self.queue.finished()
        else:
            self.queue.held(request.shard)
        if order := self.queue.next():
            request.shard, request.alone_until = order
            request.done = self.job.done_count(request.shard)
            self.requests[request.actor.do.remote(*order)] = request
        else:
            self.ray.kill(request.actor)

    def _died(self, request: _Request, how: str) -> None:
        """Put the shard of a dead actor back."""
        self.failed_starts += not self.has_started
        if self.failed_starts >= MAX_FAILED_STARTS:
            raise no_progress(self.job, how)
        alone = None
        if request.shard is not None:
            done = self.job.done_count(request.shard)
            if done > request.done:
                self.queue.progressed()
            if done < min(request.alone_until, self.job.count(request.shard)):
                alone = self.job.entries(request.shard)[done].id
        self.queue.worker_died(how, request.shard, alone, request.ahead)


@dataclass
class _Request:
    """A call of an actor that has not returned."""

    actor: Any
    shard: int | None = None  # None: the call loads the model
    alone_until: int = 0
    done: int = 0  # entries of the shard that were done before the call
    ahead: int = 1


def _load(job: Job, decoders: int, device: str) -> AbstractContextManager[EntryProcessor]:
    from mmattn.inference.engines.processor import open_processor

    return open_processor(job, decoders, device)


def _outcome(do: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": do()}
    except MmattnError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {last_line(error)}", "exit_code": 1}


def _device(device: str, gpus: float) -> str:
    """The device of an actor. Ray shows it only its own GPUs, the first as 0."""
    if device.startswith("cuda") and not gpus:
        raise UsageError(f"device={device} with engine=ray needs engine.gpus=1")
    return ("cuda:0" if gpus else "cpu") if device in ("auto", "cuda") else device


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected. One that is started here uses loopback alone, reports nothing and leaves no files."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # binds to loopback on every system
    try:
        import ray
        from ray.job_config import JobConfig
    except ImportError:
        raise UsageError("engine=ray needs Ray: pip install 'mmattn[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    from ray.job_config import JobConfig

    # As a client job: otherwise Ray prepends the current folder to sys.path of every actor.
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
        raise UsageError(f"engine.address={address}: {last_line(error)}") from None
    finally:
        ray.shutdown()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
