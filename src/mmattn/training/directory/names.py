"""The names of the files in a run directory."""

from __future__ import annotations

CONFIG_FILE = "config.yaml"
RUN_FILE = "run.json"
EVALUATION_FILE = "evaluation.json"  # of the best epoch, on the validation clips
UNREADABLE_FILE = "unreadable.jsonl"
SWEEP_FILE = "sweep.json"  # beside the runs of a sweep: name of a run -> its overrides
FINISHED_FILE = "finished.json"  # written when training has come to its end
