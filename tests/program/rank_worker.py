"""A worker of a distributed run that also leaves its own copy of the trained weights: python rank_worker.py RUN_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mmattn.training import worker
from mmattn.training.callbacks.report import Report

if __name__ == "__main__":
    plain = Report.on_train_end

    def and_keep(self, trainer, pl_module) -> None:
        plain(self, trainer, pl_module)
        torch.save(pl_module.model.state_dict(), Path(sys.argv[1]) / f"rank{trainer.global_rank}.pt")

    Report.on_train_end = and_keep
    sys.exit(worker.main())
