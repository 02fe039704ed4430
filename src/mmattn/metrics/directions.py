"""Which way metrics are better, by the first part of their names below `val/`."""

from __future__ import annotations

LOWER = ("loss", "calibration_error")
HIGHER = ("mAP", "mean_accuracy", "accuracy", "top5_accuracy", "auroc", "d_prime", "f1", "f1_at_half", "captions")
