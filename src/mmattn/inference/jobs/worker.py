"""The protocol of a worker process: JSON messages, a line each.

In: {"shard": 3, "alone_until": 0}. Out: {"ahead": 24} when the worker is ready; then for a shard {"alone": id},
{"done": n, "failed": false} and at the end {"finished": 3}, or {"held": 3} if another process holds it. {"error": text,
"exit_code": n} is the last message. The worker ends at once when its input ends, because then the driver has ended.
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

from mmattn.errors import MmattnError, os_line
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import EntryProcessor, process_shard


def serve(job: Job, load: Callable[[], AbstractContextManager[EntryProcessor]]) -> int:
    """Process the shards that the driver sends; returns the exit code. `load` loads the model, and may fail."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a cluster signals every process of a job; the driver handles it
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keeps what libraries print away from the driver

    def send(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    orders = _receive_orders()
    try:
        with load() as processor:
            send({"ahead": processor.ahead})
            while True:
                order = orders.get()
                finished = process_shard(job, order["shard"], processor, send, order["alone_until"])
                send({"finished" if finished else "held": order["shard"]})
    except MmattnError as error:
        send({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except OSError as error:
        send({"error": os_line(error), "exit_code": 1})
        return 1


def _receive_orders() -> queue.SimpleQueue[dict[str, Any]]:
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def receive() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    return orders
