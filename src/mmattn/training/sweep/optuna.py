"""`mmattn train -m search=optuna`: Optuna says which point of a space comes next, each trial is a run of its own.

Asked and told in this process, so that a trial is trained, stopped and resumed as any other run is. All that Optuna
knows is in a journal in the sweep's folder; each trial's sampler has a seed of its own, so a search that was stopped
asks for the same trials as one that was not.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from mmattn.config import Config, build, compose
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import fresh_folder, write_atomically
from mmattn.names import choices
from mmattn.training.launch.launcher import launcher_of
from mmattn.training.launch.local import launch
from mmattn.training.loop.curves import curves
from mmattn.training.loop.keep import EVALUATION_FILE
from mmattn.training.run.alone import LEASE, alone
from mmattn.training.sweep.grid import Point, folder_of, plain_name
from mmattn.training.sweep.space import Grid, distribution, parsed_sweep

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

JOURNAL_FILE = "trials.log"
SEARCH_FILE = "search.json"
BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class Optuna:
    """`space`: key -> what it may be, in Hydra's sweep grammar. `metric`: see mmattn.training.loop.curves."""

    trials: int
    metric: str
    direction: Literal["maximize", "minimize"]
    sampler: Literal["tpe", "random"]
    warmup: int
    seed: int
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize") or self.sampler not in ("tpe", "random"):
            raise UsageError(
                f"search: expected direction maximize or minimize and sampler tpe or random; got {self.direction}, "
                f"{self.sampler}"
            )
        if self.trials < 1 or self.warmup < 1 or self.seed < 0:
            raise UsageError("search: expected trials and warmup from 1 on, seed from 0 on")

    def sampler_of(self, number: int) -> BaseSampler:
        """Of trial `number`: the same one whenever it is asked."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = (self.seed * 100_003 + number) % 2**32
        return (
            RandomSampler(seed=seed)
            if self.sampler == "random"
            else TPESampler(n_startup_trials=self.warmup, seed=seed)
        )


def search(overrides: Sequence[str]) -> str:
    """Train trials until there are as many as asked for; returns their table, with the folder at the end.

    A trial that fails is reported and counts. Raises UsageError for what cannot be searched, MmattnError when all fail,
    Stopped on a signal: the same command goes on with the trial it stopped.
    """
    _check_installed()
    fixed, space, settings = plan(overrides)
    folder = folder_of(overrides)
    if compose("train", fixed)["dry_run"]:
        return "\n".join(
            [
                f"{settings.trials} trials, {settings.metric} to {settings.direction}",
                *(found.text for found in space.values()),
            ]
        )
    if any(text.startswith("sweep=") for text in overrides):
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = fresh_folder(folder)
    with alone(folder):
        _keep_settings(folder, fixed, space, settings)
        study = _study(folder, settings)
        begun = len(study.get_trials(deepcopy=False))
        print(f"{folder}: {begun} of {settings.trials} trials begun", file=sys.stderr)
        while trial := _next(study, settings, space):
            _train(study, trial, fixed, folder, settings)
            _keep_best(study, folder, settings)
    if not _done(study):
        raise MmattnError(f"{folder}: all {settings.trials} trials failed; what was wrong is said above")
    return f"{_table(study, folder, settings)}\n{folder}"


def plan(overrides: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Grid], Optuna]:
    """What is the same in every trial, what is searched, and how. Raises UsageError."""
    if any(text.startswith(("run=", "resume=")) for text in overrides):
        raise UsageError("train -m names its runs itself; give the folder a name with sweep=NAME")
    swept = {text: f for text in overrides if not text.startswith("sweep=") and (f := parsed_sweep(text))}
    how = [text for text in overrides if text.partition("=")[0].partition(".")[0] == "search"]
    left = (text for text in overrides if text not in swept and text not in how)
    fixed = tuple(one for text in left for one in (choices(text) if not text.startswith("sweep=") else None) or [text])
    config = compose("train", [*how, *fixed])
    settings = build(config["search"])
    if not launcher_of(config).here:
        raise UsageError("search=optuna trains one trial after the other here; with launcher=slurm sweep over a grid")
    if config.get("pretrain"):
        raise UsageError("search=optuna goes by a metric of tags or captions, and pretrain= has none")
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
        raise UsageError("search: a key is searched twice; it stands in search.space or on the command line")
    for key, found in space.items():  # so that a typo shows now
        for value in found.values or (found.first,):
            compose("train", [*fixed, f"{key}={value}"])
    return fixed, space, settings


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """{optim.lr: ...} and {optim: {lr: ...}} are the same."""
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
    """Raises UsageError where the folder holds another search; more trials of the same may be asked for."""
    how = {name: value for name, value in asdict(settings).items() if name not in ("trials", "space")}
    record = {"fixed": list(fixed), "space": {key: found.text for key, found in space.items()}, **how}
    file = folder / SEARCH_FILE
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != record:
        raise UsageError(f"{folder}: holds a search with other settings; choose another sweep=NAME")
    if not file.is_file() and any(path.name != LEASE for path in folder.iterdir()):
        raise UsageError(f"{folder}: holds a sweep that is no search; choose another sweep=NAME")
    write_atomically(file, json.dumps(record, indent=1).encode())


def _study(folder: Path, settings: Optuna) -> Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    return optuna.create_study(storage=storage, study_name="search", direction=settings.direction, load_if_exists=True)


def _next(study: Study, settings: Optuna, space: dict[str, Grid]) -> FrozenTrial | None:
    """The trial that was stopped, or a new one; None when there are enough."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.params.keys() == space.keys():
            return trial
        study.tell(trial.number, state=TrialState.FAIL)  # stopped before it was known what it was to be
    number = len(study.get_trials(deepcopy=False))
    if number >= settings.trials:
        return None
    study.sampler = settings.sampler_of(number)
    config = compose("train")
    asked = study.ask({key: distribution(found, config) for key, found in space.items()})
    return study.get_trials()[asked.number]


def _train(study: Study, trial: FrozenTrial, fixed: Sequence[str], folder: Path, settings: Optuna) -> None:
    from optuna.trial import TrialState

    point = point_of(trial, fixed, folder)
    print(f"[{trial.number + 1}/{settings.trials}] {point.run}", file=sys.stderr)
    try:
        if not point.finished:
            config = compose("train", point.overrides)
            launch({**config, "resume": str(point.run)} if point.begun else config)
        study.tell(trial.number, value_of(point.run, settings.metric))
    except (Stopped, _NoMetric):
        raise
    except MmattnError as error:
        print(f"{point.run}: failed, and is left out: {error}", file=sys.stderr)
        study.tell(trial.number, state=TrialState.FAIL)


def point_of(trial: FrozenTrial, fixed: Sequence[str], folder: Path) -> Point:
    """Its run directory is named after its number and, rounded, what makes it this trial."""
    swept = tuple(f"{key}={value}" for key, value in trial.params.items())
    short = [f"{key}={_rounded(value)}" for key, value in trial.params.items()]
    run = folder / plain_name(",".join([f"{trial.number:03d}", *short]))
    return Point(run, swept, (*fixed, *swept, f"run={run}"))


def _rounded(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class _NoMetric(UsageError):
    """No trial will have the metric."""


def value_of(run: Path, metric: str) -> float:
    """Of the model that a finished run kept. Raises UsageError where its evaluation has no such metric."""
    evaluation: dict[str, Any] = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    found = curves(evaluation)
    if metric not in found:
        some = ", ".join(name for name in found if name.count("/") == 1)
        raise _NoMetric(f"search.metric={metric}: {run} has none of that name; among others it has {some}")
    if not math.isfinite(found[metric]):
        raise MmattnError(f"{metric} is {found[metric]}")
    return found[metric]


def _done(study: Study) -> list[FrozenTrial]:
    """Trials that have a value, the best first."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    trials = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted(trials, key=lambda t: t.value or 0.0, reverse=study.direction == StudyDirection.MAXIMIZE)


def _keep_best(study: Study, folder: Path, settings: Optuna) -> None:
    if not (done := _done(study)):
        return
    best = done[0]
    point = point_of(best, (), folder)
    record: Config = {"run": str(point.run), settings.metric: best.value, "overrides": list(point.swept)}
    write_atomically(folder / BEST_FILE, yaml.safe_dump(record, sort_keys=False).encode())


def _table(study: Study, folder: Path, settings: Optuna) -> str:
    """A line for each trial, the best first, failed ones last."""
    done = _done(study)
    failed = [t for t in study.get_trials() if t.value is None]
    lines = [f"{settings.metric:>12}  trial"]
    for trial in [*done, *failed]:
        value = "failed" if trial.value is None else f"{trial.value:.4f}"
        lines.append(f"{value:>12}  {point_of(trial, (), folder).run.name}")
    return "\n".join(lines)
