"""`mmattn train -m search=optuna`: Optuna chooses the points of a space; each trial is a run.

Uses Optuna's ask-and-tell interface, so that a trial is trained, stopped and resumed like any other run. Optuna's state
is in a journal in the sweep's folder, and each trial's sampler has its own seed, so a search that was stopped continues
with the same trials as one that was not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmattn.config.compose import Composer, build
from mmattn.config.names import choices
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import fresh_folder, write_atomically
from mmattn.progress import log
from mmattn.training.directory.exclusive import LEASE
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.sweep.engine import carry_out, opened
from mmattn.training.sweep.optuna import Optuna
from mmattn.training.sweep.overrides import check_unnamed, folder_of, is_named, of_runs
from mmattn.training.sweep.points import SEARCH_FILE, point_in
from mmattn.training.sweep.space import Grid, parsed_sweep
from mmattn.training.sweep.trials import Trials


def search(overrides: Sequence[str], evaluate: str | None, dry_run: bool, composer: Composer) -> str:
    """Train trials until there are search.trials of them; returns their table and the folder.

    Raises UsageError, MmattnError when a trial fails, Stopped on a signal; the same command then continues with the
    stopped trial.
    """
    _check_installed()
    fixed, space, settings = plan(overrides, composer)
    folder = folder_of(overrides)
    if dry_run:
        from mmattn.training.sweep.forecast import forecast

        swept = [f"{key}={found.first}" for key, found in space.items()]
        heading = f"{settings.trials} trials, {settings.metric} to {settings.direction}; one of them, for example:"
        example = forecast([point_in(folder, swept, (*fixed, *swept))], composer, evaluate)
        return "\n".join([*(found.text for found in space.values()), heading, example])
    folder = folder if is_named(overrides) else fresh_folder(folder)
    with opened(folder):
        _keep_settings(folder, fixed, space, settings)
        trials = Trials(folder, fixed, space, settings, composer.compose(fixed))
        log(f"{folder}: {trials.begun} of {settings.trials} trials begun")
        try:
            carry_out(folder, trials, composer, evaluate)
        except MmattnError as error:
            if trials.done and error.exit_code == 1 and not isinstance(error, Stopped):
                print(trials.table())
            raise
    return f"{trials.table()}\n{folder}"


def plan(overrides: Sequence[str], composer: Composer | None = None) -> tuple[tuple[str, ...], dict[str, Grid], Optuna]:
    """The fixed overrides, the space, and the settings of the search. Raises UsageError."""
    check_unnamed(overrides)
    composer = composer or Composer("train")
    how = [text for text in overrides if re.split("[=.]", text.lstrip("+"))[0] == "search"]
    swept = {text: found for text in of_runs(overrides) if (found := parsed_sweep(text))}
    left = (text for text in of_runs(overrides) if text not in swept)
    fixed = tuple(one for text in left for one in choices(text) or [text])
    config = composer.compose([*how, *fixed])
    settings = build(config["search"])
    if not launcher_of(config).here:
        raise UsageError("search=optuna trains one trial after the other here; with launcher=slurm sweep over a grid")
    if config.get("pretrain"):
        raise UsageError("search=optuna needs a metric of tags or captions, and pretrain= has none")
    for key, text in _flat(settings.space):
        if not (found := parsed_sweep(f"{key}={text}")):
            raise UsageError(f"search.space: {key}: {text} has one value only; give a,b or range(...) or interval(...)")
        swept[f"search.space: {key}"] = found
    if not swept:
        raise UsageError(
            "train -m search=optuna: nothing to search; give optim.lr=interval(1e-4,1e-2), fusion=late,cross"
        )
    space = {found.key: found for found in swept.values()}
    if len(space) < len(swept):
        raise UsageError("search: a key is searched twice; give it in search.space or on the command line, not both")
    for key, found in space.items():  # so that typos are reported now
        for value in found.values or (found.first,):
            composer.compose([*fixed, f"{key}={value}"])
    return fixed, space, settings


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of dotted key and text; {optim.lr: ...} and {optim: {lr: ...}} are the same."""
    for key, value in space.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _check_installed() -> None:
    try:
        import optuna
    except ImportError:
        raise UsageError("search=optuna needs Optuna: pip install mmattn[optuna]") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _keep_settings(folder: Path, fixed: Sequence[str], space: dict[str, Grid], settings: Optuna) -> None:
    """Write search.json. Raises UsageError where the folder holds another search; only `trials` may change."""
    how = {name: value for name, value in asdict(settings).items() if name not in ("trials", "space")}
    record = {"fixed": list(fixed), "space": {key: found.text for key, found in space.items()}, **how}
    file = folder / SEARCH_FILE
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != record:
        raise UsageError(f"{folder}: holds a search with other settings; choose another sweep=NAME")
    if not file.is_file() and any(path.name != LEASE for path in folder.iterdir()):
        raise UsageError(f"{folder}: holds a grid, not a search; choose another sweep=NAME")
    write_atomically(file, json.dumps(record, indent=1).encode())
