"""`mmattn compare`: runs side by side on one self-contained HTML page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import followed
from mmattn.progress import log
from mmattn.reports.collect.missing import evaluate_missing
from mmattn.reports.collect.runs import EVALUATION_FILE
from mmattn.reports.collect.select import select_runs, unfinished
from mmattn.reports.page.options import Options, check, options_of
from mmattn.reports.page.report import FEW, write_report
from mmattn.reports.text import listing
from mmattn.text import counted


def compare(config: Config) -> Path:
    """Write the page of a comparison; returns its path. Raises UsageError naming what is wrong and where."""
    check(config)
    out, options = followed(Path(str(config["out"]))), options_of(config)
    predictions = Path(str(config["predictions"])) if config["predictions"] else None
    if not config["watch"]:
        runs = select_runs(config["runs"], config["sweep"])
        notes: list[str] = []
        if not isinstance(config["runs"], Sequence) or isinstance(config["runs"], str):
            runs, notes = _finished(runs)
        evaluate_missing([run for run in runs if (run / EVALUATION_FILE).is_file()], str(config["evaluate"]).lower())
        return write_report(runs, predictions, out, notes=notes, options=options)
    return _watch(config, predictions, out, replace(options, refresh_s=float(config["every_s"])))


def _finished(runs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The runs with an evaluation, and a note naming those without. Raises UsageError when no run has one."""
    waiting = set(unfinished(runs))
    ready = [run for run in runs if run not in waiting]
    if not ready:
        first = sorted(waiting)[0]
        raise UsageError(f"none of the {counted(len(waiting), 'run')} has finished a validation; the first is {first}")
    if not waiting:
        return ready, []
    named = listing([str(run) for run in sorted(waiting)[:FEW]]) + (" and others" if len(waiting) > FEW else "")
    return ready, [f"Left out because no validation has finished: {named}."]


def _watch(config: Config, predictions: Path | None, out: Path, options: Options) -> Path:
    """Write the page again whenever a run has logged something, until Ctrl-C. The page reloads itself."""
    seen: dict[Path, tuple[int, int]] = {}
    logged = False
    while True:
        try:
            runs = select_runs(config["runs"], config["sweep"])
            ready, notes = _finished(runs)
        except UsageError as error:
            ready, notes = [], [str(error)]
        stats = {file: file.stat() for run in ready for file in run.glob("*.json*")}
        now = {file: (stat.st_mtime_ns, stat.st_size) for file, stat in stats.items()}  # before the runs are read
        if ready and now != seen:
            note = f"Written {time.strftime('%Y-%m-%d %H:%M:%S')}; updated when a run logs something new."
            write_report(ready, predictions, out, notes=[note, *notes], options=options)
            seen = now
            log(f"{out}: {counted(len(ready), 'run')}")
            logged = True
        elif not logged and notes:
            log(f"waiting: {notes[0]}")
            logged = True
        time.sleep(options.refresh_s or 10.0)
