"""Cores that processes share, and how long OpenMP's threads spin before they sleep.

By default libgomp's threads spin for milliseconds after every parallel region. Beside decoders, or other jobs, that
costs several times the work itself. On an idle machine the shorter spin has no measurable cost (docs/benchmarks.md).
"""

from __future__ import annotations

import os

SHORT_SPIN = {"GOMP_SPINCOUNT": "2000"}  # for a child's environment; what the user has set takes precedence


def cores() -> int:
    """How many cores this process may use; a scheduler or container may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
