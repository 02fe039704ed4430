"""On PYTHONPATH, it lets one process of a distributed run be struck: MMATTN_STRIKE="RANK HOW FILE" (see stops.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "MMATTN_STRIKE" in os.environ and "mmattn.training.worker" in sys.orig_argv:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from stops import strike_at_every

    rank, how, struck = os.environ["MMATTN_STRIKE"].split(" ", 2)
    if os.environ["LOCAL_RANK"] == rank:
        strike_at_every(setattr, how, Path(struck), rank)
