"""For processes that share their cores: how many there are, and how long OpenMP's threads spin before they sleep.

libgomp lets them spin for milliseconds after every parallel part. Beside decoding processes, or other jobs, that costs
several times the work itself; so short a while costs nothing measurable on an idle machine (docs/benchmarks.md).
"""

from __future__ import annotations

import os

SHORT_SPIN = {"GOMP_SPINCOUNT": "2000"}  # of a child's environment; what the user has set goes first


def cores() -> int:
    """That this process may use, which a scheduler or container may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
