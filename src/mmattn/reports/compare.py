"""`mmattn compare`: runs side by side on one HTML page that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.config import Config
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.media.isolate import IsolatedReader
from mmattn.reports.collect import collect_runs
from mmattn.reports.page import Example, Page, render
from mmattn.reports.predictions import Failure, Prediction, read_predictions, spread
from mmattn.reports.thumbnails import thumbnails

EXAMPLES = 12
_DEADLINE_S = 20.0  # for the pictures of one example


def compare(config: Config) -> Path:
    """The report that `mmattn compare` asks for; returns its path. Raises UsageError naming what is wrong where."""
    runs = config["runs"]
    if isinstance(runs, str) or not isinstance(runs, Sequence):
        raise UsageError(f"runs={runs}: expected a list, as in runs=[{runs},runs/b]")
    if not config["out"]:
        raise UsageError(f"out={config['out']}: name the file to write, as in out=report.html")
    predictions = config["predictions"]
    return write_report([Path(run) for run in runs], Path(predictions) if predictions else None, Path(config["out"]))


def write_report(
    runs: Sequence[Path],
    predictions: Path | None,
    out: Path,
    title: str = "Sound and picture: runs compared",
    notes: Sequence[str] = (),
) -> Path:
    """Write the page about `runs` (with examples from a predictions.jsonl) at `out`, whole or not at all.

    `notes` are sentences shown at the top. Raises UsageError as `compare` does.
    """
    records = collect_runs(runs)
    good: list[Prediction] = []
    bad: list[Failure] = []
    if predictions is not None:
        good, bad = read_predictions(predictions)
    page = Page(
        title=title,
        runs=records,
        notes=list(notes),
        predictions=None if predictions is None else str(predictions),
        files_read=len(good),
        examples=_examples(spread(good, EXAMPLES)),
        failures=bad,
        out=str(out),
    )
    html = render(page)
    try:
        write_atomically(out, html)
    except OSError as error:
        raise UsageError(f"out={out}: cannot be written ({error.strerror}); name another file") from None
    return out


def _examples(predictions: Sequence[Prediction]) -> list[Example]:
    with IsolatedReader(deadline_s=_DEADLINE_S, follow_symlinks=True) as reader:
        return [Example(one, thumbnails(one.path, one.span, reader.read)) for one in predictions]
