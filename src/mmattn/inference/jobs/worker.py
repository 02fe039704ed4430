"""What one process says and hears while it answers shards, line by line.

In: {"shard": 3, "alone_until": 0}. Out: {"ready": true}, then of a shard {"alone": id}, {"done": n, "failed": false}
and {"finished": 3}; {"error": text, "exit_code": n} is the last word. When the input ends, so does the process, at
once: whoever started it is gone.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import Answer, answer_shard


def serve(job: Job, answering: Callable[[], AbstractContextManager[Answer]]) -> int:
    """Answer the shards that are ordered; returns the exit code. `answering` loads the model, errors included."""
    voice = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints is not for the driver

    def tell(message: dict[str, Any]) -> None:
        voice.write(json.dumps(message) + "\n")
        voice.flush()

    orders = _orders()
    try:
        with answering() as answer:
            tell({"ready": True})
            while True:
                order = orders.get()
                answer_shard(job, order["shard"], answer, tell, order["alone_until"])
                tell({"finished": order["shard"]})
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
