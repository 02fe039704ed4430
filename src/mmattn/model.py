"""AVModel: encoders, fusion, tags and captions in a plain nn.Module, and how a config describes one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.config.compose import Config, build
from mmattn.config.targets import NO_TAGS as NO_TAGS
from mmattn.data.load.splits import SplitData
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.fusion.interface import Fusion
from mmattn.tasks.captioning.interface import Captioner
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Tokens

PARTS = ("visual", "audio", "fusion", "task", "captions")


class AVModel(nn.Module):
    """From a batch to tag logits. `encode`, `fuse`, `task` and `captions` can also be called separately.

    `task` gives tags (NoTags: none); `captions`, if not None, gives captions.
    """

    def __init__(
        self,
        visual: VisualEncoder,
        audio: AudioEncoder,
        fusion: Fusion,
        task: Task,
        captions: Captioner | None = None,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.audio = audio
        self.fusion = fusion
        self.task = task
        self.captions = captions

    def encode(self, batch: Batch) -> tuple[Tokens, Tokens]:
        """Video and audio tokens."""
        return self.visual(batch), self.audio(batch)

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        """The fused streams, with the requested attention statistics."""
        return self.fusion(video, audio, stats)

    def forward(self, batch: Batch) -> Float[Tensor, "B K"]:
        return self.task(self.fuse(*self.encode(batch)))

    def losses(self, fused: Fused, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of each of its tasks: tags, captions."""
        losses = {}
        if self.task.vocabulary.names:
            losses["tags"] = self.task.loss(self.task(fused), batch)["loss"]
        if self.captions:
            losses["captions"] = self.captions.loss(fused, batch)
        return losses


def build_model(
    config: Config,
    vocabulary: TagVocabulary,
    tokenizer: CaptionTokenizer | None = None,
    built: Mapping[str, Any] = MappingProxyType({}),
) -> AVModel:
    """From a resolved config with the parts visual, audio, fusion, task and, for captions, captions.

    `tokenizer`: that of the captions. `built`: encoders or fusion that exist already. Raises UsageError.
    """
    parts = {name: built.get(name) or build(config[name]) for name in ("visual", "audio", "fusion")}
    parts["task"] = build(config["task"], vocabulary=vocabulary)
    if spec := config.get("captions"):
        parts["captions"] = build_captioner(spec, tokenizer)
    return AVModel(**parts)


def build_captioner(spec: Config, tokenizer: CaptionTokenizer | None) -> Captioner:
    """From the config group captions. Its key `tokenizer` describes how to get one, see tokenizer_of."""
    return build({name: value for name, value in spec.items() if name != "tokenizer"}, tokenizer=tokenizer)


def vocabulary_of(config: Config, data: SplitData) -> TagVocabulary:
    """The tags of the training data; none with task=none."""
    return TagVocabulary(()) if config["task"]["_target_"] == NO_TAGS else data.vocabulary


def tokenizer_of(config: Config, data: SplitData) -> CaptionTokenizer | None:
    """The tokenizer of the captions config, learned from the training captions or read from files."""
    if not (spec := config.get("captions")):
        return None
    return build(spec["tokenizer"], captions=data.training_captions())


def with_frames(config: Config, visual: VisualEncoder) -> Config:
    """`config` with the frame format of `visual` in data.clip, if height and width are not set there."""
    clip = (config.get("data") or {}).get("clip") or {}
    open_keys = [name for name in ("height", "width") if name in clip and clip[name] is None]
    if not open_keys:
        return config
    if len(open_keys) == 1:
        raise UsageError(f"data.clip.{open_keys[0]} is not set; set data.clip.height and width, or neither")
    if visual.frame_format is None:
        raise UsageError("data.clip.height and width are not set, and this visual= has no frame format; set them")
    return {**config, "data": {**config["data"], "clip": {**clip, **visual.frame_format.clip}}}


def resolved(config: Config, model: AVModel) -> Config:
    """`config` with the architecture and preprocessing that `model` took from pretrained files written out."""
    config = with_frames(config, model.visual)
    own = {name: {**config[name], **getattr(getattr(model, name), "resolved", {})} for name in _chosen(config)}
    for spec in own.values():
        if isinstance(path := spec.get("pretrained"), str) and expanded(path).exists():
            spec["pretrained"] = str(expanded(path).absolute())
    return {**config, **own}


def without_files(config: Config) -> Config:
    """A resolved `config` that builds the same model without reading its pretrained weights."""
    empty = {"pretrained": None, "hub": False}
    chosen = _chosen(config)
    return {**config, **{name: {k: empty.get(k, v) for k, v in config[name].items()} for name in chosen}}


def _chosen(config: Config) -> list[str]:
    return [name for name in PARTS if config.get(name)]
