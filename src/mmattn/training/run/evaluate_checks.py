"""Checks of an evaluation before torch is imported and the model is loaded."""

from __future__ import annotations

import math
from pathlib import Path

from mmattn.config.compose import Config, build
from mmattn.data.manifest.rows import SPLITS
from mmattn.data.prepare.augment.noise_kinds import KINDS
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE, check_output
from mmattn.training.directory.frozen import read_config


def check_evaluation(config: Config) -> None:
    """Raises UsageError for wrong settings, a run without a model, and a split without clips."""
    run, split = Path(str(config["run"])), config["split"]
    if split not in SPLITS:
        raise UsageError(f"split={split}: expected one of {', '.join(SPLITS)}")
    _check_noise(config["noise"])
    _check_views(config["views"])
    if config["out"]:
        check_output(Path(str(config["out"])), f"out={config['out']}")
    trained = read_config(run)
    if not (run / MODEL_FILE).is_file():
        raise UsageError(f"{run}: no model yet ({MODEL_FILE}); it is written after the first validation")
    if split == "test" and not _has_test_clips(trained["data"]):  # those of train and val were needed for training
        raise UsageError(f"{run}: its data set has no test clips; set split= to train or val, or the 'split' column")


def _check_noise(noise: Config) -> None:
    kind, snr_db = noise["kind"], noise["snr_db"]
    is_number = isinstance(snr_db, int | float) and not isinstance(snr_db, bool) and math.isfinite(snr_db)
    if kind is not None and not (kind in KINDS and is_number):
        raise UsageError(f"noise.kind={kind} noise.snr_db={snr_db}: expected {', '.join(KINDS)} and a number of dB")


def _check_views(views: Config) -> None:
    if views["crops"] not in (1, 3):
        raise UsageError(f"views.crops={views['crops']}: expected 1 or 3")
    for key, kind, expected in (("spans", int, "a whole number, 1 or more"), ("flip", bool, "true or false")):
        value = views[key]
        if type(value) is not kind or value < (kind is int):
            raise UsageError(f"views.{key}={value}: expected {expected}")


def _has_test_clips(data: Config) -> bool:
    """Read from the manifest or folders; sources that need torch to be built are not looked at."""
    target = str(data["source"].get("_target_", ""))
    if not target.endswith((".FolderSource", ".ShardSource")):
        return True
    return any(row.split == "test" for row in build(data["source"]).rows())
