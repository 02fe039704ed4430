"""On the path of a process it makes each batch of training take MMATTN_SLOW_S longer."""

from __future__ import annotations

import os
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any


class _Slow(MetaPathFinder):
    """Changes one method of a module when that is imported, and imports nothing before its time."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "mmattn.training.callbacks.log_steps":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            module.LogSteps.on_train_batch_start = _slow(module.LogSteps.on_train_batch_start)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _slow(method: Any) -> Any:
    def on_train_batch_start(*args: Any, **kwargs: Any) -> None:
        time.sleep(float(os.environ["MMATTN_SLOW_S"]))
        method(*args, **kwargs)

    return on_train_batch_start


if "MMATTN_SLOW_S" in os.environ:
    sys.meta_path.insert(0, _Slow())
