"""From a composed config to a trained run directory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.directory.frozen import check_machine, on_other_machine, read_config
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.run.prepare import prepare


def launch(config: Config, changes: Sequence[str] = ()) -> Path:
    """Train what `mmattn train` asked for; returns the run directory.

    `changes`: the overrides beside resume=, which may say where a run goes on but not what it is.
    """
    if config["resume"]:
        check_machine(changes)
        run = Path(str(config["resume"]))
        joins = launcher_of(read_config(run)).nodes > 1  # this node one that holds the run already, maybe
        with nullcontext() if joins else exclusive(run):  # its config is not to change under who trains
            frozen, data = on_other_machine(run, config, changes), None
    else:
        run, data = prepare(config)
        frozen = read_config(run)
    launcher_of(frozen).start(run, frozen, data)
    return run
