"""AVModel: encoders + fusion + task, a plain nn.Module. Training, inference and weightings all use this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.config import Config, build
from mmattn.data.labels import TagVocabulary
from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.fusion.base import Fusion
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Tokens

PARTS = ("visual", "audio", "fusion", "task")


class AVModel(nn.Module):
    """A clip's frames and sound to tag logits. `encode`, `fuse` and `task` can be called apart."""

    def __init__(self, visual: VisualEncoder, audio: AudioEncoder, fusion: Fusion, task: Task) -> None:
        super().__init__()
        self.visual = visual
        self.audio = audio
        self.fusion = fusion
        self.task = task

    def encode(self, batch: Batch) -> tuple[Tokens, Tokens]:
        return self.visual(batch), self.audio(batch)

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        return self.fusion(video, audio, stats)

    def forward(self, batch: Batch) -> Float[Tensor, "B K"]:
        return self.task(self.fuse(*self.encode(batch)))


def build_model(config: Config, vocabulary: TagVocabulary) -> AVModel:
    """From a resolved config with the parts visual, audio, fusion and task. Raises UsageError for what does not fit."""
    parts: dict[str, Any] = {name: build(config[name]) for name in ("visual", "audio", "fusion")}
    return AVModel(task=build(config["task"], vocabulary=vocabulary), **parts)


def resolved(config: Config, model: AVModel) -> Config:
    """`config` with the architecture that `model`'s parts took from pretrained files written out."""
    own = {name: {**config[name], **getattr(getattr(model, name), "resolved", {})} for name in PARTS}
    for spec in own.values():
        if isinstance(path := spec.get("pretrained"), str) and Path(path).expanduser().exists():
            spec["pretrained"] = str(Path(path).expanduser().absolute())
    return {**config, **own}


def without_files(config: Config) -> Config:
    """A resolved `config` that builds the same model without its pretrained weights: they will come from elsewhere."""
    empty = {"pretrained": None, "hub": False}
    return {**config, **{name: {k: empty.get(k, v) for k, v in config[name].items()} for name in PARTS}}
