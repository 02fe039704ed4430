"""What a launcher reports when processes were stopped or have failed."""

from __future__ import annotations

from pathlib import Path

from mmattn.errors import Stopped
from mmattn.training.checkpoints.atomic import BEFORE, LAST

STOPPED = (130, 138, 143)  # exit codes of processes that were asked to stop and did


def stopped_run(run: Path, code: int) -> Stopped:
    """The error of a run that a signal stopped, with how to continue it."""
    stopped = Stopped(f"stopped; {_resume_hint(run) or 'before the first checkpoint'}")
    stopped.exit_code = code
    return stopped


def _resume_hint(run: Path) -> str:
    kept = (run / LAST).exists() or (run / BEFORE).exists()
    return f"continue with: mmattn train resume={run}" if kept else ""


def what_now(run: Path, code: int) -> str:
    """A process that was killed could not print a message."""
    killed = code > 128
    cause = f"signal {code - 128} ended it (was there enough memory?)" if killed else "its message is above"
    return "; ".join([cause, *([hint] if killed and (hint := _resume_hint(run)) else [])])
