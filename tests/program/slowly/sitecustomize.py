"""On the path of a process it makes each batch of training take MMATTN_SLOW_S longer."""

from __future__ import annotations

import os
import sys
import time
from importlib.abc import MetaPathFinder
from typing import Any


class _Slow(MetaPathFinder):
    """Waits for the module whose method it changes; nothing is imported before its time."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name != "mmattn.training.loop.steps":
            return
        sys.meta_path.remove(self)
        from mmattn.training.loop.steps import LogSteps

        plain = LogSteps.on_train_batch_start

        def on_train_batch_start(*args: Any, **kwargs: Any) -> None:
            time.sleep(float(os.environ["MMATTN_SLOW_S"]))
            plain(*args, **kwargs)

        LogSteps.on_train_batch_start = on_train_batch_start  # type: ignore[method-assign]


if "MMATTN_SLOW_S" in os.environ:
    sys.meta_path.insert(0, _Slow())
