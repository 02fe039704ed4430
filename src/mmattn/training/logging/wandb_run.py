"""logger=wandb. A resumed run stays one run in wandb. An error of wandb never stops training."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger

from mmattn.config.compose import Config
from mmattn.files import MODEL_FILE
from mmattn.training.directory.record import run_id

STEP = "trainer/global_step"  # the name that Lightning's wandb logger uses
GROUPS = ("sweep.json", "search.json")  # files that mark a folder of related runs
PLAN = "plan.json"  # in a run of a comparison made by an earlier version
Mode = Literal["online", "offline"]


class WandbRun(WandbLogger):
    """`run`: the run directory; `artifact`: also upload the model of a finished run."""

    def __init__(self, experiment: Any, run: Path, artifact: bool) -> None:
        super().__init__(experiment=experiment)
        self._run = run
        self._artifact = artifact

    def end(self, code: int, stopped: bool) -> None:
        """Finish the wandb run. `code`: exit code of training; `stopped`: by a signal, to be resumed."""
        try:
            if stopped:
                self.experiment.mark_preempting()
            if code == 0 and self._artifact:
                import wandb

                kept = wandb.Artifact(f"model-{self.experiment.id}", type="model")
                kept.add_file(str(self._run / MODEL_FILE))
                self.experiment.log_artifact(kept)
            self.experiment.finish(exit_code=code)
        except Exception as error:  # whatever wandb does, the run has ended
            print(f"wandb: could not finish its run ({error}); the metrics are in {self._run}", file=sys.stderr)


def wandb_run(config: Config, run: Path) -> WandbRun | None:
    """Start a wandb run, online if logger.online is set and the user is logged in. None where wandb fails."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    online = config["logger"]["online"] and has_credentials()
    if config["logger"]["online"] and not online:
        print("wandb: not logged in, so the run stays offline (wandb login, then wandb sync)", file=sys.stderr)
    for mode in ("online", "offline") if online else ("offline",):
        try:
            return _start(config, run, mode)
        except Exception as error:  # whatever wandb does, training continues
            print(f"wandb: {mode} failed ({error}); metrics are in {run / 'metrics.jsonl'}", file=sys.stderr)
    return None


def _start(config: Config, run: Path, mode: Mode) -> WandbRun:
    import wandb

    experiment = wandb.init(mode=mode, config=config, dir=str(run.absolute()), **_arguments(config, run, mode))
    experiment.define_metric(STEP)  # one x axis for all metrics
    experiment.define_metric("*", step_metric=STEP, step_sync=True)
    for metric, best in (("val/mAP", "max"), ("val/loss", "min")):
        experiment.define_metric(metric, step_metric=STEP, summary=best)
    return WandbRun(experiment, run, bool(config["logger"].get("artifact")))


def _arguments(config: Config, run: Path, mode: Mode) -> dict[str, Any]:
    """Arguments of wandb.init. A run that has been online must be found there again."""
    import wandb

    options, own = config["logger"], run_id(run)
    system = options.get("system")
    measured = mode == "online" if system is None else bool(system)
    resume = "must" if own and list(run.glob(f"wandb/run-*-{own}")) else "allow"
    return {
        "project": options["project"],
        "entity": options.get("entity"),
        "name": run.name,
        "group": options.get("group") or group_of(run),
        "job_type": options.get("job_type"),
        "tags": str(options.get("tags") or "").split() or None,
        "notes": options.get("notes"),
        "id": own,  # a resumed run stays one run
        "resume": resume if mode == "online" else None,
        "settings": wandb.Settings(init_timeout=25, disable_git=True, x_disable_stats=not measured, console="off"),
    }


def group_of(run: Path) -> str | None:
    """The name of the sweep, search or comparison that the run belongs to."""
    folder = run.absolute().parent
    marks = (*(folder / name for name in GROUPS), run / PLAN)
    return folder.name if any(mark.is_file() for mark in marks) else None


def has_credentials() -> bool:
    """Whether the user is logged in to wandb. Makes no connection."""
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
