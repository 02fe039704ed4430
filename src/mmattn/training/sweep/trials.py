"""The trials of a search: what Optuna asks for, and what is reported to it."""

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
from mmattn.training.callbacks.keep_model import EVALUATION_FILE
from mmattn.training.logging.curves import curves
from mmattn.training.sweep.points import Hopeless, Point, keep_points, point_in
from mmattn.training.sweep.space import Grid, distribution

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
from mmattn.training.sweep.optuna import Optuna, _study

BEST_FILE = "best.yaml"


AGAIN = {"again": True}  # of a trial that stands for an earlier one that failed


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
