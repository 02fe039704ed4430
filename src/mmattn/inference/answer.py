"""What answers the entries of a predict job, made from its settings: a trained model, or tags without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from mmattn.checkpoint import load_model
from mmattn.config import Config
from mmattn.data.reading import AHEAD, ClipReader
from mmattn.data.views import Views
from mmattn.errors import UsageError
from mmattn.inference.jobs.shard import Answering
from mmattn.inference.pipeline import Predictor
from mmattn.inference.pretrained import PretrainedTagger
from mmattn.media.isolate import IsolatedReader


@contextmanager
def answering(config: Config, decoders: int, device: str) -> Iterator[Answering]:
    """Load the model on `device`, with so many decoding processes. Raises UsageError."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: {str(error).splitlines()[0]}") from None
    settings = {"threshold": config["threshold"], "device": device}
    reading = {"deadline_s": config["deadline_s"], "follow_symlinks": config["follow_symlinks"]}
    if config["model"] == "pretrained":
        weights = {name: config[name] for name in ("weights", "hub", "modalities")}
        tagger = PretrainedTagger(**weights, **settings)
        with IsolatedReader(**reading) as reader:
            yield Answering(lambda entries: tagger.records((entry.media for entry in entries), reader), ahead=1)
        return
    checkpoint = load_model(Path(str(config["run"])), config.get("attention"), config.get("decoding"))
    spans = {name: config[name] for name in ("windows", "span_step_s", "batch_size")}
    with closing(ClipReader(threads=decoders, **reading)) as reader:
        predictor = Predictor(checkpoint, reader=reader, views=Views(**config["views"]), **settings, **spans)
        ahead = 1 if predictor.sliding else config["batch_size"] + AHEAD * decoders
        yield Answering(lambda entries: predictor.records(entry.media for entry in entries), ahead)
