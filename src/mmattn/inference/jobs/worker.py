"""What one process says and hears while it answers shards, line by line.

In: {"shard": 3, "alone_until": 0}. Out: {"ahead": 24} when it is ready; then of a shard {"alone": id},
{"done": n, "failed": false} and at last {"finished": 3}, or {"held": 3} where another process works on it;
{"error": text, "exit_code": n} is the last word. When the input ends, so does the process, at once: whoever started it
is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import Answering, answer_shard


def serve(job: Job, load: Callable[[], AbstractContextManager[Answering]]) -> int:
    """Answer the shards that are ordered; returns the exit code. `load` gets the model ready, and may fail."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a cluster signals every process of a job; the driver decides
    voice = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints is not for the driver

    def tell(message: dict[str, Any]) -> None:
        voice.write(json.dumps(message) + "\n")
        voice.flush()

    orders = _orders()
    try:
        with load() as answering:
            tell({"ahead": answering.ahead})
            while True:
                order = orders.get()
                finished = answer_shard(job, order["shard"], answering, tell, order["alone_until"])
                tell({"finished" if finished else "held": order["shard"]})
    except MmattnError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except OSError as error:
        tell({"error": f"{error.filename or 'system'}: {error.strerror or error}", "exit_code": 1})
        return 1


def _orders() -> queue.SimpleQueue[dict[str, Any]]:
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return orders
