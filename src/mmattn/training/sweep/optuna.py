"""`mmattn train -m search=optuna`: Optuna says which point of a space comes next, each trial is a run of its own.

Asked and told in this process, so that a trial is trained, stopped and resumed as any other run is. All that Optuna
knows is in a journal in the sweep's folder; each trial's sampler has a seed of its own, so a search that was stopped
asks for the same trials as one that was not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from mmattn.config.compose import Composer, Config, build
from mmattn.config.names import choices
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import fresh_folder, write_atomically
from mmattn.progress import say
from mmattn.training.launch.launcher import launcher_of
from mmattn.training.logging.curves import curves
from mmattn.training.loop.keep import EVALUATION_FILE
from mmattn.training.run.alone import LEASE
from mmattn.training.sweep.asked import check_unnamed, folder_of, is_named, of_runs
from mmattn.training.sweep.engine import carry_out, opened
from mmattn.training.sweep.points import SEARCH_FILE, Hopeless, Point, keep_points, point_in
from mmattn.training.sweep.space import Grid, distribution, parsed_sweep

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

JOURNAL_FILE = "trials.log"
BEST_FILE = "best.yaml"
AGAIN = {"again": True}  # of a trial that stands for an earlier one that failed


@dataclass(frozen=True)
class Optuna:
    """`space`: key -> what it may be, in Hydra's sweep grammar. `metric`: see mmattn.training.logging.curves."""

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


def search(overrides: Sequence[str], evaluate: str | None, dry_run: bool, composer: Composer) -> str:
    """Train trials until there are as many as asked for; returns their table, with the folder at the end.

    Raises UsageError for what cannot be searched, MmattnError when a trial fails, Stopped on a signal: the same command
    goes on with the trial it stopped.
    """
    _check_installed()
    fixed, space, settings = plan(overrides, composer)
    folder = folder_of(overrides)
    if dry_run:
        from mmattn.training.sweep.forecast import forecast

        swept = [f"{key}={found.first}" for key, found in space.items()]
        told = f"{settings.trials} trials, {settings.metric} to {settings.direction}; one of them, for example:"
        example = forecast([point_in(folder, swept, (*fixed, *swept))], composer, evaluate)
        return "\n".join([*(found.text for found in space.values()), told, example])
    folder = folder if is_named(overrides) else fresh_folder(folder)
    with opened(folder):
        _keep_settings(folder, fixed, space, settings)
        trials = Trials(folder, fixed, space, settings, composer.compose(fixed))
        say(f"{folder}: {trials.begun} of {settings.trials} trials begun")
        try:
            carry_out(folder, trials, composer, evaluate)
        except MmattnError as error:
            if trials.done and error.exit_code == 1 and not isinstance(error, Stopped):
                print(trials.table())
            raise
    return f"{trials.table()}\n{folder}"


class Trials:
    """The points that Optuna asks for, and what is reported to it of them."""

    def __init__(
        self, folder: Path, fixed: Sequence[str], space: dict[str, Grid], settings: Optuna, config: Config
    ) -> None:
        self.folder, self.fixed, self.settings, self.count = folder, tuple(fixed), settings, settings.trials
        self.study = _study(folder, settings)
        self.begun = self._count_asked()
        self._space = {key: distribution(found, config) for key, found in space.items()}
        self._asked: FrozenTrial | None = None

    def __iter__(self) -> Iterator[Point]:
        """Those that failed before are tried again, for what they were asked for."""
        for trial in self.study.get_trials():
            if trial.state.is_finished() and trial.params.keys() == self._space.keys():
                self._asked = trial
                yield self.point(trial)
        while trial := self._next():
            self._asked = trial
            point = self.point(trial)
            keep_points(self.folder, [point])
            yield point

    def point(self, trial: FrozenTrial) -> Point:
        swept = [f"{key}={_rounded(value)}" for key, value in trial.params.items()]
        return point_in(self.folder, swept, (*self.fixed, *swept))

    def finished(self, point: Point) -> None:
        """Raises Hopeless where no run will have the metric, MmattnError where this run's is no number."""
        from optuna.trial import TrialState, create_trial

        asked, value = self._asked, value_of(point.run, self.settings.metric)
        if asked is None or asked.state == TrialState.COMPLETE:
            return
        if asked.state == TrialState.FAIL:  # its second try; what Optuna was told before stays
            again = create_trial(params=asked.params, distributions=asked.distributions, value=value, user_attrs=AGAIN)
            self.study.add_trial(again)
        else:
            self.study.tell(asked.number, value)
        self._keep_best()

    def failed(self, point: Point) -> None:
        from optuna.trial import TrialState

        if self._asked is not None and not self._asked.state.is_finished():
            self.study.tell(self._asked.number, state=TrialState.FAIL)

    def _next(self) -> FrozenTrial | None:
        """The trial that was stopped, one that failed, or a new one; None when there are enough."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if trial.params.keys() == self._space.keys():
                return trial
            self.study.tell(trial.number, state=TrialState.FAIL)  # stopped before it was known what it was to be
        number = self._count_asked()
        if number >= self.settings.trials:
            return None
        self.study.sampler = self.settings.sampler_of(number)
        asked = self.study.ask(self._space).number
        return self.study.get_trials()[asked]

    def _count_asked(self) -> int:
        return sum(trial.user_attrs != AGAIN for trial in self.study.get_trials(deepcopy=False))

    @property
    def done(self) -> list[FrozenTrial]:
        """Trials that have a value, the best first."""
        from optuna.study import StudyDirection
        from optuna.trial import TrialState

        trials = self.study.get_trials(states=(TrialState.COMPLETE,))
        return sorted(trials, key=lambda t: t.value or 0.0, reverse=self.study.direction == StudyDirection.MAXIMIZE)

    def _keep_best(self) -> None:
        if done := self.done:
            point = self.point(done[0])
            record: Config = {"run": str(point.run), self.settings.metric: done[0].value}
            record["overrides"] = list(point.swept)
            write_atomically(self.folder / BEST_FILE, yaml.safe_dump(record, sort_keys=False).encode())

    def table(self) -> str:
        """A line for each trial, the best first, failed ones last."""
        lines = [f"{self.settings.metric:>12}  trial"]
        for trial in [
            *self.done,
            *(t for t in self.study.get_trials() if t.value is None and not self.point(t).finished),
        ]:
            value = "failed" if trial.value is None else f"{trial.value:.4f}"
            lines.append(f"{value:>12}  {self.point(trial).run.name}")
        return "\n".join(lines)


def plan(overrides: Sequence[str], composer: Composer | None = None) -> tuple[tuple[str, ...], dict[str, Grid], Optuna]:
    """What is the same in every trial, what is searched, and how. Raises UsageError."""
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
            composer.compose([*fixed, f"{key}={value}"])
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


def _rounded(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def value_of(run: Path, metric: str) -> float:
    """Of the model that a finished run kept. Raises Hopeless where its evaluation has no such metric."""
    evaluation: dict[str, Any] = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    found = curves(evaluation)
    if metric not in found:
        some = ", ".join(name for name in found if name.count("/") == 1)
        raise Hopeless(f"search.metric={metric}: {run} has none of that name; among others it has {some}")
    if not math.isfinite(found[metric]):
        raise MmattnError(f"{metric} is {found[metric]}")
    return found[metric]
