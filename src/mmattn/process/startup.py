"""Keeps files of the current folder (`av.py`, `queue.py`, `json.py`) from being imported as modules.

`python -m mmattn` puts that folder first on sys.path, and a console script puts its own there. Both are removed before
anything else is imported, and for Python processes started later PYTHONSAFEPATH is set. PYTHONPATH is kept. A process
that only imports mmattn is not changed.
"""

from __future__ import annotations

import os
import sys

SAFE = {"PYTHONSAFEPATH": "1"}  # for a child's environment: the same as -P on a command line


def _is_ours() -> bool:
    """Whether this process was started as mmattn, or one of its modules."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":  # Python has not found the module yet
        at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else len(sys.orig_argv)
        return "".join(sys.orig_argv[at : at + 1]).partition(".")[0] == "mmattn"
    return first.replace("\\", "/").rpartition("/")[2] in ("mmattn", "mmattn.exe")


class safe_children:  # named as those of contextlib, which may not be imported here
    """Processes started in the body leave the current folder out of sys.path; then the environment is restored."""

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in SAFE}
        os.environ.update(SAFE)

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if _is_ours():
    if not sys.flags.safe_path and sys.path:
        del sys.path[0]
    os.environ.update(SAFE)
