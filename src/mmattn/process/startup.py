"""No file of the current folder is taken for a module, whatever its name: `av.py`, `queue.py`, `json.py`.

`python -m mmattn` puts that folder in front of the path, and a console script its own. Both are taken out before
anything else is imported; processes that Python starts from here on do without them (PYTHONSAFEPATH). What the user set
in PYTHONPATH stays. A process that only imports mmattn is left as it is.
"""

from __future__ import annotations

import os
import sys

SAFE = {"PYTHONSAFEPATH": "1"}  # of a child's environment: what -P is on a command line


def _is_ours() -> bool:
    """Whether this process was started as mmattn, or one of its modules."""
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":  # the module is still being looked for
        at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else len(sys.orig_argv)
        return "".join(sys.orig_argv[at : at + 1]).partition(".")[0] == "mmattn"
    return first.replace("\\", "/").rpartition("/")[2] in ("mmattn", "mmattn.exe")


class safe_children:  # named as those of contextlib, which may not be imported here
    """Processes started in here leave the current folder out of their path; this process's environment is put back."""

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
