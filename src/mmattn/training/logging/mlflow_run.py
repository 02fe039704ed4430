"""logger=mlflow: a local MLflow store or a server. A resumed run stays one run in MLflow."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import MLFlowLogger

from mmattn.config.compose import Config
from mmattn.files import write_atomically
from mmattn.training.logging.wandb_run import group_of

ID_FILE = "mlflow.id"  # MLflow chooses the id of a run; stored for when the run is resumed


def mlflow_run(config: Config, run: Path) -> MLFlowLogger:
    """Into `logger.uri`; null: a database in the run directory (mlflow ui --backend-store-uri sqlite:///...)."""
    options, file = config["logger"], run / ID_FILE
    logger = MLFlowLogger(
        experiment_name=options["project"],
        run_name=run.name,
        tracking_uri=options["uri"] or f"sqlite:///{run.absolute()}/mlflow.db",
        tags={"group": group} if (group := options["group"] or group_of(run)) else None,
        run_id=file.read_text(encoding="utf-8").strip() if file.is_file() else None,
    )
    first = not file.is_file()
    write_atomically(file, str(logger.run_id).encode())
    if first:
        logger.log_hyperparams({key: value for key, value in config.items() if key != "logger"})
    return logger
