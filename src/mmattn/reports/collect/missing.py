"""Runs without per-clip scores: evaluated before they are compared, if the user agrees."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmattn.checkpoint import load_model
from mmattn.config.compose import compose
from mmattn.errors import MmattnError, UsageError
from mmattn.progress import log
from mmattn.reports.collect.runs import TEST_FILE
from mmattn.text import clock, counted
from mmattn.weighting.clip_scores import scores_file
from mmattn.weighting.evaluation import Evaluation

CHOICES = ("ask", "missing", "none")


def evaluate_missing(runs: Sequence[Path], choice: str) -> None:
    """Evaluate the runs that lack per-clip scores on the split that will be shown.

    `choice`: "missing" evaluates them, "none" does not, "ask" asks once on a terminal and says how long it takes. A run
    that cannot be evaluated is logged and compared without tests.
    """
    if choice not in CHOICES:
        raise UsageError(f"evaluate={choice}: expected {', '.join(CHOICES)}")
    split = "test" if all((run / TEST_FILE).is_file() for run in runs) else "val"
    missing = [run for run in dict.fromkeys(runs) if not scores_file(run, split).is_file()]
    if choice == "none" or not missing or (choice == "ask" and not sys.stdin.isatty()):
        return
    try:
        needed = f", about {clock(_seconds(missing[0], split) * len(missing))}"
    except (MmattnError, RuntimeError, StopIteration) as error:
        needed = f" (unknown how long it takes: {str(error).splitlines()[0] if str(error) else 'no clips'})"
    log(f"{counted(len(missing), 'run')} to evaluate on the {split} clips, for intervals and tests{needed}")
    if choice == "ask" and input("evaluate now? [y/N] ").strip().lower() not in ("y", "yes"):
        return
    from mmattn.training.run.evaluate import evaluate

    for run in missing:
        try:
            log(evaluate(compose("evaluate", ["run=RUN"]) | {"run": str(run), "split": split}))
        except MmattnError as error:
            log(f"{run}: not evaluated: {error}")


def _seconds(run: Path, split: str) -> float:
    """How long evaluating a run takes, estimated from one batch."""
    from mmattn.data.build import build_data
    from mmattn.training.directory.frozen import read_config

    checkpoint, data = load_model(run), build_data(read_config(run)["data"])
    try:
        loader = data.loader(data.dataset(split, vocabulary=checkpoint.vocabulary), train=False)
        started = time.monotonic()
        batch = next(iter(loader))
        Evaluation(checkpoint.vocabulary, permutations=True).update(checkpoint.model, batch)
        return (time.monotonic() - started) * len(loader)
    finally:
        data.close()
