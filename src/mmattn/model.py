"""AVModel: encoders + fusion + tags and captions, a plain nn.Module, for training, inference and weightings alike."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.config.compose import Config, build
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

NO_TAGS = "mmattn.tasks.interface.NoTags"
PARTS = ("visual", "audio", "fusion", "task", "captions")


class AVModel(nn.Module):
    """A clip's frames and sound to tag logits. `encode`, `fuse`, `task` and `captions` can be called apart.

    `task` gives tags (NoTags: none), `captions`, where it is there, captions.
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
        return self.visual(batch), self.audio(batch)

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        return self.fusion(video, audio, stats)

    def forward(self, batch: Batch) -> Float[Tensor, "B K"]:
        return self.task(self.fuse(*self.encode(batch)))

    def losses(self, fused: Fused, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """What each of its tasks would have minimised: tags, captions, as far as it has them."""
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

    `tokenizer`: of the captions. `built`: those of the first three that were built before. Raises UsageError for what
    does not fit.
    """
    parts = {name: built.get(name) or build(config[name]) for name in ("visual", "audio", "fusion")}
    parts["task"] = build(config["task"], vocabulary=vocabulary)
    if spec := config.get("captions"):
        parts["captions"] = build_captioner(spec, tokenizer)
    return AVModel(**parts)


def build_captioner(spec: Config, tokenizer: CaptionTokenizer | None) -> Captioner:
    """From the config group captions, whose `tokenizer` says how to come by one."""
    return build({name: value for name, value in spec.items() if name != "tokenizer"}, tokenizer=tokenizer)


def vocabulary_of(config: Config, data: SplitData) -> TagVocabulary:
    """The tags that the model of a training config is to learn, from its data; none with task=none."""
    return TagVocabulary(()) if config["task"]["_target_"] == NO_TAGS else data.vocabulary


def tokenizer_of(config: Config, data: SplitData) -> CaptionTokenizer | None:
    """The tokenizer that its captions config describes, learned from the training captions if it is one to learn."""
    if not (spec := config.get("captions")):
        return None
    return build(spec["tokenizer"], captions=data.training_captions())


def with_frames(config: Config, visual: VisualEncoder) -> Config:
    """`config` whose data.clip, where it leaves height and width open, has the frames that `visual` wants."""
    clip = (config.get("data") or {}).get("clip") or {}
    open_keys = [name for name in ("height", "width") if name in clip and clip[name] is None]
    if not open_keys:
        return config
    if len(open_keys) == 1:
        raise UsageError(f"data.clip.{open_keys[0]} is not set; set data.clip.height and width, or neither")
    if visual.frame_format is None:
        raise UsageError("data.clip.height and width are not set, and visual= does not say what it wants; set them")
    return {**config, "data": {**config["data"], "clip": {**clip, **visual.frame_format.clip}}}


def resolved(config: Config, model: AVModel) -> Config:
    """`config` with the architecture that `model`'s parts took from pretrained files written out."""
    config = with_frames(config, model.visual)
    own = {name: {**config[name], **getattr(getattr(model, name), "resolved", {})} for name in _chosen(config)}
    for spec in own.values():
        if isinstance(path := spec.get("pretrained"), str) and expanded(path).exists():
            spec["pretrained"] = str(expanded(path).absolute())
    return {**config, **own}


def without_files(config: Config) -> Config:
    """A resolved `config` that builds the same model without its pretrained weights: they will come from elsewhere."""
    empty = {"pretrained": None, "hub": False}
    chosen = _chosen(config)
    return {**config, **{name: {k: empty.get(k, v) for k, v in config[name].items()} for name in chosen}}


def _chosen(config: Config) -> list[str]:
    return [name for name in PARTS if config.get(name)]
