"""The settings of search=optuna, and Optuna's study in the folder of the sweep."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmattn.errors import UsageError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler

JOURNAL_FILE = "trials.log"


@dataclass(frozen=True)
class Optuna:
    """`space`: key -> its values in Hydra's sweep grammar. `metric`: see mmattn.training.logging.curves."""

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
            raise UsageError("search: expected trials and warmup of 1 or more, seed of 0 or more")

    def sampler_of(self, number: int) -> BaseSampler:
        """The sampler of trial `number`, always with the same seed."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = (self.seed * 100_003 + number) % 2**32
        return (
            RandomSampler(seed=seed)
            if self.sampler == "random"
            else TPESampler(n_startup_trials=self.warmup, seed=seed)
        )


def study_in(folder: Path, settings: Optuna) -> Study:
    """Optuna's study, from its journal in `folder`; a new one where there is none."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL_FILE)))
    return optuna.create_study(storage=storage, study_name="search", direction=settings.direction, load_if_exists=True)
