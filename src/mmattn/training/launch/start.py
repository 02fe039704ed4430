"""From a composed config to a trained run directory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.directory.frozen import check_machine, on_other_machine, read_config, write_config
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.run.prepare import prepare, prepare_again


def launch(config: Config, changes: Sequence[str] = ()) -> Path:
    """Train a new run, or resume one; returns the run directory.

    `changes`: the overrides besides resume=, which may change where a run trains but not what it trains.
    """
    if config["resume"]:
        check_machine(changes)
        run = Path(str(config["resume"]))
        joins = launcher_of(read_config(run)).nodes > 1  # perhaps another node already holds the run
        with nullcontext() if joins else exclusive(run):  # its config must not change while a process trains
            frozen, data = read_config(run), None
            if changes:
                frozen = prepare_again(on_other_machine(frozen, config, changes))
                write_config(run, frozen)
    else:
        run, data = prepare(config)
        frozen = read_config(run)
    launcher_of(frozen).start(run, frozen, data)
    return run
