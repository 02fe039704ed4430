"""One self-contained file for a trained model: safetensors weights, and all else it needs in the file's metadata.

Loading executes no code: there is no pickle, and only classes that the installed configs name are built (see
mmattn.config.targets).
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
    """A trained model with its vocabulary and the clips that it expects.

    `thresholds`: the calibrated thresholds of free tags.
    """

    model: AVModel
    config: Config
    vocabulary: TagVocabulary
    clip: ClipSpec
    info: dict[str, Any]
    thresholds: dict[str, float] = field(default_factory=dict)


def save_model(path: Path, checkpoint: Checkpoint, weights: dict[str, Tensor] | None = None) -> None:
    """Write the file atomically.

    `weights`: the model's state dict if it is sharded over processes, gathered before.
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
    """Read a run directory or its model file, on the CPU, in eval mode. Raises UsageError.

    `attention`: a mechanism to use instead of the trained one, if its weights fit. `decoding`: settings of the caption
    search to change.
    """
    file = _model_file(path)
    record, weights = _read(file)
    try:
        vocabulary = TagVocabulary.from_dict(record["vocabulary"])
        clip = ClipSpec(**record["clip"])
        tokenizer = CaptionTokenizer.from_dict(record["tokenizer"]) if record.get("tokenizer") else None
        config = _part_configs(record["config"])
        info = dict(record["info"])
        thresholds = _thresholds(record.get("thresholds", {}), vocabulary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: not a complete mmattn model ({type(error).__name__}: {error})") from None
    if attention is not None:
        config = _with_attention(config, attention, file)
    model = build_model(config, vocabulary, tokenizer)
    if attention is not None:
        _check_fits(model, weights, file)
    try:
        model.load_state_dict(weights | _shared(model, weights))
    except RuntimeError as error:
        raise UsageError(f"{file}: weights do not fit its config ({str(error).splitlines()[0]})") from None
    if decoding is not None:
        if model.captions is None:
            raise UsageError(f"{file}: decoding= needs a model with captions; train one with captions=transformer")
        model.captions.set_decoding(decoding)
    return Checkpoint(model.eval(), config, vocabulary, clip, info, thresholds)


def _model_file(path: Path) -> Path:
    if is_address(path):
        raise UsageError(f"{path}: a checkpoint is a local file; download it first")
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        hint = " (no epoch is finished yet)" if path.is_dir() else ""
        raise UsageError(f"{file}: no such model{hint}; train one with: mmattn train run={path}")
    return file


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record in the file's metadata, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            record = json.loads((opened.metadata() or {})[METADATA_KEY])
            return record, renamed({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118 (not a dict)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: not a complete mmattn model ({type(error).__name__}: {error})") from None


def _part_configs(parts: dict[str, Any]) -> Config:
    """The configs of the model's parts; older files have none of captions."""
    chosen = [name for name in PARTS if name != "captions" or parts.get(name) is not None]
    return without_files({name: dict(parts[name]) for name in chosen})


def _thresholds(record: dict[str, Any], vocabulary: TagVocabulary) -> dict[str, float]:
    """Raises ValueError for an unknown tag, or a threshold outside of [0, 1]."""
    found = {str(tag): float(value) for tag, value in record.items()}
    if wrong := [tag for tag, value in found.items() if tag not in vocabulary.place or not 0 <= value <= 1]:
        raise ValueError(f"threshold {found[wrong[0]]} of tag {wrong[0]!r}")
    return found


def _each_once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with several names (a language model's tied embedding) under the first one only."""
    by_place = {(tensor.data_ptr(), tensor.shape): name for name, tensor in reversed(weights.items())}
    kept = [name for name in weights if name in set(by_place.values()) or not weights[name].numel()]
    return {name: weights[name].detach().cpu().contiguous() for name in kept}


def _shared(model: AVModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The further names of tensors that are in `weights` under one name."""
    own = model.state_dict()
    by_place = {(own[name].data_ptr(), own[name].shape): name for name in weights if name in own}
    places = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in own.items() if name not in weights}
    return {name: weights[by_place[place]] for name, place in places.items() if place in by_place}


def _with_attention(config: Config, attention: Config, file: Path) -> Config:
    if "attention" not in config["fusion"]:
        name = config["fusion"]["_target_"].rpartition(".")[2]
        raise UsageError(f"{file}: {name} has no attention to replace; leave out attention=")
    return {**config, "fusion": {**config["fusion"], "attention": attention}}


def _check_fits(model: AVModel, weights: dict[str, Tensor], file: Path) -> None:
    """Raises UsageError if the other mechanism has weights that were not trained, or lacks trained ones."""
    own = model.state_dict().keys()
    for names, fault in (
        (own - weights.keys(), "it has weights that were not trained"),
        (weights.keys() - own, "it lacks weights that were trained"),
    ):
        if names:
            kinds = sorted({name.rpartition(".attention.")[2] for name in names})
            raise UsageError(
                f"{file}: this attention does not fit: {fault} ({', '.join(kinds)}); train a model with it instead"
            )
