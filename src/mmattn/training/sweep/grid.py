"""`mmattn train -m`: Hydra's sweep grammar, each point a run of its own, the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmattn.config import Config, compose
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import fresh_folder, write_atomically
from mmattn.names import choices
from mmattn.text import counted
from mmattn.training.launch.launcher import launcher_of
from mmattn.training.launch.local import launch, prepare
from mmattn.training.run.directory import CONFIG_FILE, FINISHED_FILE, read_config

SWEEP_FILE = "sweep.json"  # point -> its overrides
MOST = 10_000
MOST_BYTES = 200  # of a run's name: file systems take 255


@dataclass(frozen=True)
class Point:
    """One run of a sweep. `swept`: what makes it this point, `overrides`: all, with its run directory."""

    run: Path
    swept: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def begun(self) -> bool:
        return (self.run / CONFIG_FILE).is_file()

    @property
    def finished(self) -> bool:
        return (self.run / FINISHED_FILE).is_file()


def sweep(overrides: Sequence[str]) -> Path:
    """Train every point that is not finished; returns the folder of the runs. With dry_run=true it only tells them.

    A point that fails is reported and left out. Raises UsageError for what no point can be, MmattnError when all fail,
    Stopped on a signal.
    """
    folder, points = plan(overrides)
    configs = [compose("train", point.overrides) for point in points]  # so that a typo shows before the first
    if configs[0]["dry_run"]:
        print("\n".join(f"{point.run}{' (finished)' if point.finished else ''}" for point in points), file=sys.stderr)
        return folder
    if not any(text.startswith("sweep=") for text in overrides) and (own := fresh_folder(folder)) != folder:
        folder, points = plan([*overrides, f"sweep={own.name}"])  # another began in the same second
        configs = [compose("train", point.overrides) for point in points]
    _keep_plan(folder, points)
    todo = [(point, config) for point, config in zip(points, configs, strict=True) if not point.finished]
    print(f"{folder}: {counted(len(points), 'run')}, {len(points) - len(todo)} of them finished", file=sys.stderr)
    if todo and not launcher_of(todo[0][1]).here:
        _submit([point for point, _ in todo], [config for _, config in todo])
        return folder
    failed = 0
    for number, (point, config) in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {point.run}", file=sys.stderr)
        try:
            launch({**config, "resume": str(point.run)} if point.begun else config)
        except Stopped:
            raise
        except MmattnError as error:
            failed += 1
            print(f"{point.run}: failed, and is left out: {error}", file=sys.stderr)
    if failed:
        raise MmattnError(
            f"{folder}: {failed} of {counted(len(points), 'run')} failed; the same command tries them again"
        )
    return folder


def plan(overrides: Sequence[str]) -> tuple[Path, list[Point]]:
    """The folder and the points, in Hydra's order: the last key runs fastest."""
    if any(text.startswith(("run=", "resume=")) for text in overrides):
        raise UsageError("train -m names its runs itself; give the folder a name with sweep=NAME")
    values_of = [_choices(text) for text in overrides]
    swept = [k for k, values in enumerate(values_of) if len(values) > 1]
    if not swept:
        raise UsageError("train -m: nothing to sweep over; give a key several values, such as fusion=late,cross")
    if (count := math.prod(map(len, values_of))) > MOST:
        raise UsageError(
            f"train -m: {count:,} points, and at most {MOST:,} at once; give parts of it the same sweep=NAME"
        )
    folder = folder_of(overrides)
    points = []
    for values in itertools.product(*values_of):
        own = tuple(values[k] for k in swept)
        run = folder / plain_name(",".join(own))
        points.append(Point(run, own, (*values, f"run={run}")))
    if len({point.run for point in points}) < len(points):
        raise UsageError("train -m: a value is listed twice")
    return folder, points


def _choices(text: str) -> list[str]:
    """The overrides that one with Hydra's choice or range sweep (a,b or range(1,4)) stands for; else itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if text.startswith("sweep="):
        return [text]
    if (names := choices(text)) is not None:
        return names
    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
    except HydraException:
        return [text]  # compose says what is wrong with it
    if not parsed.is_sweep_override():
        return [text]
    if not (parsed.is_choice_sweep() or parsed.is_range_sweep() or parsed.is_interval_sweep()):
        raise UsageError(f"{text}: sweep over values (a,b,c) or range(...)")
    if parsed.is_interval_sweep():
        raise UsageError(
            f"{text}: an interval has no values to try one by one; range(from,to,step) has, or search=optuna"
        )
    key = parsed.get_key_element()
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def folder_of(overrides: Sequence[str]) -> Path:
    """Of the runs of a sweep or search."""
    name = next((text.partition("=")[2] for text in overrides if text.startswith("sweep=")), None)
    return Path("runs") / "sweeps" / plain_name(name or time.strftime("%Y%m%d-%H%M%S"))


def plain_name(name: str) -> str:
    """A file name for it. Where it would be too long, a digest at its end tells it from others that begin alike."""
    plain = re.sub(r"[^\w.,=+-]+", "_", name) or "_"
    if len(plain.encode()) <= MOST_BYTES:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{plain.encode()[: MOST_BYTES - len(digest) - 1].decode(errors='ignore')}-{digest}"


def _keep_plan(folder: Path, points: Sequence[Point]) -> None:
    """Raises UsageError where the folder holds another sweep."""
    file = folder / SWEEP_FILE
    record = {point.run.name: list(point.overrides) for point in points}
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        if any(before.get(name, wanted) != wanted for name, wanted in record.items()):
            raise UsageError(f"{folder}: holds a sweep with other settings; choose another sweep=NAME")
        record = {**before, **record}  # more points of the same
    write_atomically(file, json.dumps(record, indent=1).encode())


def _submit(points: Sequence[Point], configs: Sequence[Config]) -> None:
    """Make the runs that are not there yet, then all that are not finished as one array."""
    for point, config in zip(points, configs, strict=True):
        if not point.begun:
            _, data = prepare(config)
            data.close()
    frozen = [read_config(point.run) for point in points]
    launcher_of(frozen[0]).start_all([point.run for point in points], frozen)
