"""The settings of a comparison, checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_output
from mmattn.reports.collect.runs import check_run
from mmattn.reports.collect.select import select_runs

MEASURE = ("missing", "all", "none")


@dataclass(frozen=True)
class Options:
    """How runs are compared. `metric`: see measures.Measures; None: mAP, or CIDEr-D without tags.

    `baseline`: the name of a row or run; None: the first. `factors`: the parts of the config that are compared; None:
    fusion and attention, as far as they differ. `measure`: costs that are "missing", "all" again, or "none". `samples`:
    how many of the clips to browse have pictures and sound; 0: no clips. `refresh_s`: the page reloads itself at this
    interval.
    """

    metric: str | None = None
    baseline: str | None = None
    factors: tuple[str, ...] | None = None
    measure: str = "none"
    samples: int = 0
    refresh_s: float | None = None


PLAIN = Options()


def check(config: Config) -> None:
    """Raises UsageError for wrong settings, runs that do not exist, and a place that cannot be written."""
    if not config["out"]:
        raise UsageError(f"out={config['out']}: name the file to write, as in out=compare.html")
    options_of(config)
    check_output(Path(str(config["out"])), f"out={config['out']}")
    if (file := config["predictions"]) and not Path(str(file)).is_file():
        raise UsageError(
            f"predictions={file}: no such file; write one with: mmattn predict run=... source=... out={file}"
        )
    if not config["watch"]:  # which waits for runs
        runs = select_runs(config["runs"], config["sweep"])
        for run in runs if isinstance(config["runs"], (list, tuple)) else ():
            check_run(run)


def options_of(config: Config) -> Options:
    """The options of a command. Raises UsageError."""
    measure = str(config["measure"]).lower()
    if measure not in MEASURE:
        raise UsageError(f"measure={config['measure']}: expected {', '.join(MEASURE)}")
    if config["samples"] < 0 or config["every_s"] < 1:
        raise UsageError("samples= must be 0 or more clips, every_s= 1 or more seconds")
    factors = [config["factors"]] if isinstance(config["factors"], str) else config["factors"]
    return Options(
        metric=None if config["metric"] is None else str(config["metric"]),
        baseline=None if config["baseline"] is None else str(config["baseline"]),
        factors=None if factors is None else tuple(map(str, factors)),
        measure=measure,
        samples=config["samples"],
    )
