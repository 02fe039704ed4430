"""One self-contained file for a trained model: safetensors weights, with all it needs to run in the file's metadata.

Loading executes nothing: no pickle, and only classes that configs on this machine name are built
(mmattn.config.targets).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn import __version__
from mmattn.config.compose import Config
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE as MODEL_FILE
from mmattn.files import is_address, write_atomically
from mmattn.model import PARTS, AVModel, build_model, resolved, without_files
from mmattn.renamed import renamed

METADATA_KEY = "mmattn"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with what it was trained to read and say.

    `thresholds`: from which score on to list a tag that stands alone, where that was calibrated.
    """

    model: AVModel
    config: Config
    vocabulary: TagVocabulary
    clip: ClipSpec
    info: dict[str, Any]
    thresholds: dict[str, float] = field(default_factory=dict)


def save_model(path: Path, checkpoint: Checkpoint, weights: dict[str, Tensor] | None = None) -> None:
    """Write beside the target, sync, then replace: the file is whole or absent.

    `weights`: the model's state dict, where several processes share it out and gathered it before.
    """
    from safetensors.torch import save

    config = without_files(resolved(checkpoint.config, checkpoint.model))
    record = {
        "mmattn_version": __version__,
        "torch_version": str(torch.__version__),
        "config": {name: config.get(name) for name in PARTS},
        "vocabulary": checkpoint.vocabulary.to_dict(),
        "tokenizer": captions.tokenizer.to_dict() if (captions := checkpoint.model.captions) else None,
        "clip": checkpoint.clip.to_dict(),
        "info": checkpoint.info,
        "thresholds": checkpoint.thresholds,
    }
    kept = _each_once(checkpoint.model.state_dict() if weights is None else weights)
    write_atomically(path, save(kept, metadata={METADATA_KEY: json.dumps(record, allow_nan=False)}))


def load_model(path: Path, attention: Config | None = None, decoding: Config | None = None) -> Checkpoint:
    """Read a run directory or its model file, on the CPU, in eval mode. Raises UsageError saying what is wrong.

    `attention`: the mechanism to attend with instead of the one that was trained, where its weights fit. `decoding`:
    what to change in how captions are searched for.
    """
    from safetensors import SafetensorError, safe_open

    if is_address(path):
        raise UsageError(f"{path}: a checkpoint is a local file; download it first")
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        hint = "; it holds no finished epoch" if path.is_dir() else ""
        raise UsageError(f"{file}: no such model{hint}; train one with: mmattn train run={path}")
    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})[METADATA_KEY])
            weights = renamed({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (not a dict)
        vocabulary = TagVocabulary.from_dict(record["vocabulary"])
        clip = ClipSpec(**record["clip"])
        tokenizer = CaptionTokenizer.from_dict(record["tokenizer"]) if record.get("tokenizer") else None
        parts = {"captions": None, **record["config"]}  # which older ones do not have
        chosen = [name for name in PARTS if name != "captions" or parts[name] is not None]
        config: Config = without_files({name: dict(parts[name]) for name in chosen})
        info = dict(record["info"])
        thresholds = _thresholds(record.get("thresholds", {}), vocabulary)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise UsageError(f"{file}: not a whole mmattn model ({type(error).__name__}: {error})") from None
    if attention is not None:
        config = _attending(config, attention, file)
    model = build_model(config, vocabulary, tokenizer)
    if attention is not None:
        _check_fits(model, weights, file)
    try:
        model.load_state_dict(weights | _shared(model, weights))
    except RuntimeError as error:
        raise UsageError(f"{file}: weights do not fit its config ({str(error).splitlines()[0]})") from None
    if decoding is not None:
        if model.captions is None:
            raise UsageError(f"{file}: decoding is for captions, and this model was trained without (captions=...)")
        model.captions.search_by(decoding)
    return Checkpoint(model.eval(), config, vocabulary, clip, info, thresholds)


def _thresholds(record: dict[str, Any], vocabulary: TagVocabulary) -> dict[str, float]:
    """Raises ValueError for what no tag's threshold can be."""
    found = {str(tag): float(value) for tag, value in record.items()}
    if wrong := [tag for tag, value in found.items() if tag not in vocabulary.place or not 0 <= value <= 1]:
        raise ValueError(f"threshold {found[wrong[0]]} of tag {wrong[0]!r}")
    return found


def _each_once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tensor that has several names (a language model's embedding is its output too) under its first."""
    by_place = {(tensor.data_ptr(), tensor.shape): name for name, tensor in reversed(weights.items())}
    kept = [name for name in weights if name in set(by_place.values()) or not weights[name].numel()]
    return {name: weights[name].detach().cpu().contiguous() for name in kept}


def _shared(model: AVModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The other names of tensors that are in `weights` under one."""
    own = model.state_dict()
    by_place = {(own[name].data_ptr(), own[name].shape): name for name in weights if name in own}
    places = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in own.items() if name not in weights}
    return {name: weights[by_place[place]] for name, place in places.items() if place in by_place}


def _attending(config: Config, attention: Config, file: Path) -> Config:
    if "attention" not in config["fusion"]:
        name = config["fusion"]["_target_"].rpartition(".")[2]
        raise UsageError(f"{file}: {name} has no attention that could be exchanged")
    return {**config, "fusion": {**config["fusion"], "attention": attention}}


def _check_fits(model: AVModel, weights: dict[str, Tensor], file: Path) -> None:
    """Weights of the other mechanism were never trained, and queries and keys learned to work with those they had."""
    own = model.state_dict().keys()
    for names, fault in (
        (own - weights.keys(), "it has weights that this model was not trained with"),
        (weights.keys() - own, "this model was trained with weights that it has no place for"),
    ):
        if names:
            kinds = sorted({name.rpartition(".attention.")[2] for name in names})
            raise UsageError(
                f"{file}: this attention does not fit: {fault} ({', '.join(kinds)}); train with it instead"
            )
