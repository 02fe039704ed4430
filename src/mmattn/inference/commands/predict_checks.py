"""Checks the settings of `mmattn predict` before any work. Each check raises UsageError."""

from __future__ import annotations

from typing import Any

from mmattn.config.compose import Config
from mmattn.config.kinds import as_typed
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators import catalogue
from mmattn.media.read.video.tone_map import HDRS
from mmattn.process.device import check_device

PLAIN_VIEWS = {"crops": 1, "flip": False}
_OF_PRETRAINED = {"annotators": catalogue.AUTO, "weights": None, "hub": False, "modalities": ["video", "audio"]}
_OF_RUN = ("attention", "decoding")


def check(config: Config) -> None:
    """Check all settings but those of the annotators and of the output."""
    _check_model(config)
    check_device(config["device"], takes_auto=True, here=config["engine"]["_target_"].endswith(".LocalEngine"))
    _check_numbers(config)
    _check_speed(config)
    _check_spans(config)
    _check_views(config)
    _check_reading(config)


def choose_annotators(config: Config) -> dict[str, str]:
    """Replace `annotators` by the names of those to run; returns those left out, with what is missing."""
    if (folder := config["weights"]) is not None and not expanded(str(folder)).is_dir():
        raise UsageError(f"weights={folder}: no such folder")
    config["annotators"], left_out = catalogue.choose(config)
    return left_out


def _check_model(config: Config) -> None:
    if config["model"] not in (None, "pretrained") or (config["model"] is None and config["run"] is None):
        raise UsageError("give run=... for a trained model, model=pretrained for tags without training, or both")
    if config["run"] is None and (given := [key for key in _OF_RUN if config.get(key) is not None]):
        raise UsageError(f"{given[0]} is for a trained model; add run=...")
    if config["model"] is None:
        for key, default in _OF_PRETRAINED.items():
            if config[key] != default:
                raise UsageError(f"{key}={as_typed(config[key])}: is for model=pretrained, not for run=")


def _check_numbers(config: Config) -> None:
    for key, least in (("windows", 1), ("batch_size", 1), ("decoders", 0), ("shard_files", 1)):
        if config[key] != "auto" and config[key] < least:
            raise UsageError(f"{key}={config[key]}: expected {least} or more")
    threshold = config["threshold"]
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise UsageError(f"threshold={threshold}: expected 0 to 1, or null for the calibrated ones")
    if config["deadline_s"] <= 0:
        raise UsageError(f"deadline_s={config['deadline_s']}: expected a number of seconds above 0")


def _check_speed(config: Config) -> None:
    if config["precision"] != "32":
        from mmattn.inference.predictor.speed import Speed  # with torch

        Speed(config["precision"])


def _check_spans(config: Config) -> None:
    step, is_pretrained = config["span_step_s"], config["model"] == "pretrained"
    if step is not None and not (_is_number(step) and step > 0):
        raise UsageError(f"span_step_s={step}: expected a number of seconds above 0, or null")
    if step is not None and is_pretrained:
        raise UsageError("span_step_s is for trained models; model=pretrained always gives times, in steps of 0.48 s")
    if not config["shots"]:
        return
    if is_pretrained:
        raise UsageError("shots=true is for trained models; model=pretrained finds shots with the annotator shots")
    if step is not None:
        raise UsageError("shots=true and span_step_s are two ways to read a file; choose one")
    from mmattn.inference.shots.cuts import check_installed  # with torch

    check_installed()


def _check_views(config: Config) -> None:
    if config["views"] != PLAIN_VIEWS:
        from mmattn.data.prepare.views import Views  # with torch

        Views(**config["views"])
        if config["model"] == "pretrained":
            raise UsageError("views are for trained models; model=pretrained reads the middle of each frame")


def _check_reading(config: Config) -> None:
    if config["identity"] not in ("stat", "hash"):
        raise UsageError(f"identity={config['identity']}: expected stat (size and modification time) or hash (content)")
    if config.get("hdr") not in (None, *HDRS):
        raise UsageError(f"hdr={config['hdr']}: expected {', '.join(HDRS)} or null")
    if config.get("deinterlace") not in (None, True, False):
        raise UsageError(f"deinterlace={config['deinterlace']}: expected true, false or null")
    if not isinstance(config["source"], (str, int, float)):
        raise UsageError(f"source={config['source']}: expected one file, directory, pattern, list or manifest")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
