"""The trials of a search: points that Optuna chooses, and their results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmattn.config.compose import Config
from mmattn.errors import MmattnError
from mmattn.files import write_atomically
from mmattn.training.directory.names import EVALUATION_FILE
from mmattn.training.logging.curves import curves
from mmattn.training.sweep.optuna import Optuna, study_in
from mmattn.training.sweep.points import Hopeless, Point, keep_points, point_in
from mmattn.training.sweep.space import Grid, distribution

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST_FILE = "best.yaml"
AGAIN = {"again": True}  # marks a trial that repeats an earlier one that failed


class Trials:
    """The points that Optuna chooses. Implements engine.Points."""

    def __init__(
        self, folder: Path, fixed: Sequence[str], space: dict[str, Grid], settings: Optuna, config: Config
    ) -> None:
        self.folder, self.fixed, self.settings, self.count = folder, tuple(fixed), settings, settings.trials
        self.study = study_in(folder, settings)
        self.begun = self._count_asked()
        self._space = {key: distribution(found, config) for key, found in space.items()}
        self._current: FrozenTrial | None = None

    def __iter__(self) -> Iterator[Point]:
        """First the earlier trials, of which failed ones are repeated, then new ones."""
        for trial in self.study.get_trials():
            if trial.state.is_finished() and trial.params.keys() == self._space.keys():
                self._current = trial
                yield self.point(trial)
        while trial := self._next():
            self._current = trial
            point = self.point(trial)
            keep_points(self.folder, [point])
            yield point

    def point(self, trial: FrozenTrial) -> Point:
        """The run of a trial."""
        swept = [f"{key}={_rounded(value)}" for key, value in trial.params.items()]
        return point_in(self.folder, swept, (*self.fixed, *swept))

    def finished(self, point: Point) -> None:
        """Report the run's metric to Optuna. Raises Hopeless where no run has it, MmattnError if not finite."""
        from optuna.trial import TrialState, create_trial

        trial, value = self._current, value_of(point.run, self.settings.metric)
        if trial is None or trial.state == TrialState.COMPLETE:
            return
        if trial.state == TrialState.FAIL:  # a repeated trial; Optuna keeps the failed one
            again = create_trial(params=trial.params, distributions=trial.distributions, value=value, user_attrs=AGAIN)
            self.study.add_trial(again)
        else:
            self.study.tell(trial.number, value)
        self._keep_best()

    def failed(self, point: Point) -> None:
        """Report the failure to Optuna."""
        from optuna.trial import TrialState

        if self._current is not None and not self._current.state.is_finished():
            self.study.tell(self._current.number, state=TrialState.FAIL)

    def _next(self) -> FrozenTrial | None:
        """A trial that was stopped, or a new one; None when there are enough."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if trial.params.keys() == self._space.keys():
                return trial
            self.study.tell(trial.number, state=TrialState.FAIL)  # stopped before its parameters were chosen
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


def _rounded(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def value_of(run: Path, metric: str) -> float:
    """The metric of a finished run's saved model. Raises Hopeless where its evaluation has no such metric."""
    evaluation: dict[str, Any] = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    found = curves(evaluation)
    if metric not in found:
        some = ", ".join(name for name in found if name.count("/") == 1)
        raise Hopeless(f"search.metric={metric}: {run} has no such metric; it has, among others, {some}")
    if not math.isfinite(found[metric]):
        raise MmattnError(f"{metric} is {found[metric]}")
    return found[metric]
