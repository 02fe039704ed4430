"""What answers the entries of a predict job, made from its settings: a trained model, or tags without training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from mmattn.checkpoint import load_model
from mmattn.config.compose import build
from mmattn.data.load.reading import AHEAD, ClipReader
from mmattn.data.manifest.library import root_of
from mmattn.data.prepare.views import Views
from mmattn.errors import UsageError
from mmattn.files import expanded, write_if_absent
from mmattn.inference.annotators.base.interface import Setting
from mmattn.inference.annotators.base.shared_decode import Annotators
from mmattn.inference.annotators.trained import NAME, Trained
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import Answering
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.inference.predictor.prompts import asking
from mmattn.inference.predictor.speed import AUTO, Speed, batch_sizes, chosen
from mmattn.media.isolate.reader import IsolatedReader

BATCH_SIZE = "batch_size.json"  # in the job's folder, where it was measured


@contextmanager
def answering(job: Job, decoders: int, device: str) -> Iterator[Answering]:
    """Load the model of a job on `device`, with so many decoding processes. Raises UsageError."""
    config = job.settings()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: {str(error).splitlines()[0]}") from None
    speed = Speed(config["precision"], config["compile"])
    look = {name: config[name] for name in ("hdr", "deinterlace") if config.get(name) is not None}
    settings = {"threshold": config["threshold"], "device": device, "speed": speed}
    reading = {"deadline_s": config["deadline_s"], "follow_symlinks": config["follow_symlinks"]}
    reading["beneath"] = root_of(expanded(str(config["source"])))
    if config["model"] == "pretrained":
        weights = None if config["weights"] is None else str(config["weights"])
        setting = Setting(weights, config["hub"], config["threshold"], device, tuple(config["modalities"]))
        chosen = [build(config["annotator"][name], setting=setting) for name in config["annotators"]]
        if config["run"] is not None:
            size = 16 if config["batch_size"] == AUTO else config["batch_size"]
            run, changes = str(expanded(str(config["run"]))), (config.get("attention"), config.get("decoding"))
            chosen.append(Trained(setting, run, NAME, *changes, batch_size=size))
        annotators = Annotators(chosen, device=device, speed=speed, **look)
        with IsolatedReader(**reading) as reader:
            yield Answering(lambda entries: annotators.records((entry.piece for entry in entries), reader), ahead=1)
        return
    checkpoint = load_model(Path(str(config["run"])), config.get("attention"), config.get("decoding"))
    if config["prompts"] is not None:
        checkpoint = asking(checkpoint, expanded(str(config["prompts"])))
    checkpoint = replace(checkpoint, clip=replace(checkpoint.clip, **look))
    spans = {name: config[name] for name in ("windows", "span_step_s", "shots")}
    with closing(ClipReader(threads=decoders, **reading)) as reader:
        predictor = Predictor(checkpoint, reader=reader, views=Views(**config["views"]), **settings, **spans)
        auto = config["batch_size"] == AUTO
        predictor.batch_size = _measured(job, predictor, device) if auto else config["batch_size"]
        ahead = 1 if predictor.over_time else predictor.batch_size + max(predictor.batch_size, AHEAD * decoders)
        yield Answering(lambda entries: predictor.records(entry.piece for entry in entries), ahead)


def _measured(job: Job, predictor: Predictor, device: str) -> int:
    """The batch size that a process of the job found best first; all others take it, so that it stays one job."""
    found = job.root / BATCH_SIZE
    if not found.is_file():
        tried = batch_sizes(predictor.rehearse, device)
        record = {
            "batch_size": chosen(tried),
            "spans_per_s": {size: round(rate, 1) for size, rate in tried.items()},
        }
        write_if_absent(found, json.dumps(record, indent=1).encode())
    return int(json.loads(found.read_text())["batch_size"])
