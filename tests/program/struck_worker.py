"""A worker of a distributed run that gets a signal at a certain step: STRIKE=STEP,RANK,SIGNAL struck_worker.py RUN_DIR.

The rank may be "all". It is struck once: not after a resume beyond that step.
"""

from __future__ import annotations

import os
import sys

from mmattn.training import worker
from mmattn.training.callbacks.seed import SeedSteps

if __name__ == "__main__":
    step, rank, number = os.environ["STRIKE"].split(",")
    plain = SeedSteps.on_train_batch_start

    def strike(self, trainer, pl_module, *rest) -> None:
        plain(self, trainer, pl_module, *rest)
        if trainer.global_step == int(step) and rank in ("all", str(trainer.global_rank)):
            os.kill(os.getpid(), int(number))

    SeedSteps.on_train_batch_start = strike
    sys.exit(worker.main())
