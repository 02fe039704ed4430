"""For processes that share their cores: how long OpenMP's threads spin before they sleep.

libgomp lets them spin for milliseconds after every parallel part. Beside decoding processes, or other jobs, that costs
several times the work itself; so short a while costs nothing measurable on an idle machine (docs/benchmarks.md).
"""

from __future__ import annotations

SHORT_SPIN = {"GOMP_SPINCOUNT": "2000"}  # of a child's environment; what the user has set goes first
