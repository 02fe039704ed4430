"""Makes what processes the entries of a predict job from its settings: a trained model, or annotators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmattn.checkpoint import load_model
from mmattn.config.compose import Config, build
from mmattn.data.load.reader import AHEAD, ClipReader
from mmattn.data.manifest.library import root_of
from mmattn.data.prepare.views import Views
from mmattn.errors import UsageError, first_line
from mmattn.files import expanded, write_if_absent
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.trained import NAME, Trained
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import EntryProcessor
from mmattn.inference.predictor.batch_size import AUTO, best_batch_size, measure_batch_sizes
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.predictor.prompts import with_prompts
from mmattn.inference.predictor.speed import Speed
from mmattn.media.isolate.reader import IsolatedReader

BATCH_SIZE = "batch_size.json"  # in the job's folder, if it was measured


@contextmanager
def open_processor(job: Job, decoders: int, device: str) -> Iterator[EntryProcessor]:
    """Load the model of a job on `device`, with `decoders` decoding processes. Raises UsageError."""
    config = job.settings()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: {first_line(error)}") from None
    reading = {
        "deadline_s": config["deadline_s"],
        "follow_symlinks": config["follow_symlinks"],
        "beneath": root_of(expanded(str(config["source"]))),
    }
    if config["model"] == "pretrained":
        annotators = _annotators(config, device)
        with IsolatedReader(**reading) as reader:
            yield EntryProcessor(lambda entries: annotators.records((each.piece for each in entries), reader), ahead=1)
        return
    with closing(ClipReader(threads=decoders, **reading)) as reader:
        predictor = _predictor(config, device, reader)
        is_auto = config["batch_size"] == AUTO
        predictor.batch_size = _measured(job, predictor, device) if is_auto else config["batch_size"]
        ahead = 1 if predictor.over_time else predictor.batch_size + max(predictor.batch_size, AHEAD * decoders)
        yield EntryProcessor(lambda entries: predictor.records(entry.piece for entry in entries), ahead)


def _annotators(config: Config, device: str) -> Annotators:
    weights = None if config["weights"] is None else str(config["weights"])
    setting = Setting(weights, config["hub"], config["threshold"], device, tuple(config["modalities"]))
    chosen = [build(config["annotator"][name], setting=setting) for name in config["annotators"]]
    if config["run"] is not None:
        size = 16 if config["batch_size"] == AUTO else config["batch_size"]
        run, changes = str(expanded(str(config["run"]))), (config.get("attention"), config.get("decoding"))
        chosen.append(Trained(setting, run, NAME, *changes, batch_size=size))
    return Annotators(chosen, device=device, speed=_speed(config), **_rendering(config))


def _predictor(config: Config, device: str, reader: ClipReader) -> Predictor:
    checkpoint = load_model(Path(str(config["run"])), config.get("attention"), config.get("decoding"))
    if config["prompts"] is not None:
        checkpoint = with_prompts(checkpoint, expanded(str(config["prompts"])))
    checkpoint = replace(checkpoint, clip=replace(checkpoint.clip, **_rendering(config)))
    own = {name: config[name] for name in ("threshold", "windows", "span_step_s", "shots")}
    views = Views(**config["views"])
    return Predictor(checkpoint, device=device, speed=_speed(config), views=views, reader=reader, **own)


def _speed(config: Config) -> Speed:
    return Speed(config["precision"], config["compile"])


def _rendering(config: Config) -> dict[str, Any]:
    """How frames are rendered, as far as the command says."""
    return {name: config[name] for name in ("hdr", "deinterlace") if config.get(name) is not None}


def _measured(job: Job, predictor: Predictor, device: str) -> int:
    """The batch size that the first process of the job measured as best; all others use it too."""
    file = job.root / BATCH_SIZE
    if not file.is_file():
        tried = measure_batch_sizes(predictor.run_noise, device)
        record = {
            "batch_size": best_batch_size(tried),
            "spans_per_s": {size: round(rate, 1) for size, rate in tried.items()},
        }
        write_if_absent(file, json.dumps(record, indent=1).encode())
    return int(json.loads(file.read_text())["batch_size"])
