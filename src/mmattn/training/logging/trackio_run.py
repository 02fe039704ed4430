"""logger=trackio: trackio's local database (trackio show). A resumed run stays one run in trackio."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from mmattn.config.compose import Config
from mmattn.training.directory.record import run_id
from mmattn.training.logging.wandb_run import group_of


class TrackioRun(Logger):
    """Trackio stores projects in the user's folder, or in TRACKIO_DIR."""

    def __init__(self, config: Config, run: Path) -> None:
        import trackio  # type: ignore[reportMissingImports]  (an extra)

        super().__init__()
        options = config["logger"]
        name = f"{run.name}-{run_id(run)}"
        self._run = trackio.init(
            project=options["project"],
            name=name,
            group=options["group"] or group_of(run),
            config={key: value for key, value in config.items() if key != "logger"},
            resume="allow",
            embed=False,
        )

    @property
    def name(self) -> str:
        return "trackio"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any) -> None:
        """Nothing to do: they were passed to init."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        self._run.finish()
