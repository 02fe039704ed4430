"""Training from tokens that frozen encoders made once (mmattn data features): nothing is decoded or encoded again.

A folder holds the encoders themselves, so it needs neither the run that they came from nor the media. The model gets
frozen copies of them, which stand aside while batches carry tokens: what is trained predicts from files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmattn.config.compose import Config
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.sources import Source
from mmattn.data.output_folder import read_made
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.files import expanded

FEATURES_FILE = "features.json"
ENCODERS_FILE = "encoders.safetensors"
MANIFEST_FILE = "manifest.jsonl"
COMMAND = "data features run=RUN data.root=DIR"


@dataclass(frozen=True)
class FeatureSource(Source):
    """What `mmattn data features` made in `root`. Labels may be changed in its manifest.jsonl."""

    root: str

    @property
    def folder(self) -> Path:
        return expanded(self.root)

    def rows(self) -> list[Row]:
        """Raises UsageError for features that are unfinished, missing or of another size than they were made with."""
        made = self.made()
        for name, size in made["files"].items():
            file = self.folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise UsageError(f"{file}: not the {size} bytes that were made; copy it or make the features again")
        return read_manifest(self.folder / MANIFEST_FILE)

    def made(self) -> dict[str, Any]:
        return read_made(self.folder, FEATURES_FILE, COMMAND)["made"]

    def clip(self) -> ClipSpec:
        return ClipSpec(**self._recipe["clip"])

    def encoder_weights(self) -> dict[str, Tensor]:
        """By their names in the model that made the tokens. Raises UsageError for those of another model."""
        made, weights = self.made(), load_file(self.folder / ENCODERS_FILE)
        if encoders_hash(weights, {name: made[name] for name in ("audio", "visual")}) != self._recipe["encoders"]:
            raise UsageError(f"{self.folder / ENCODERS_FILE}: not the encoders that made the tokens")
        return weights

    @property
    def _recipe(self) -> dict[str, Any]:
        return read_made(self.folder, FEATURES_FILE, COMMAND)["recipe"]


def encoders_hash(weights: Mapping[str, Tensor], configs: Mapping[str, Any]) -> str:
    """Of the encoders `visual` and `audio` of a model: their configs, and weights by their names in it."""
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def with_frozen_encoders(config: Config) -> Config:
    """A config whose `data` is features, with the encoders and the clip they were made by; others as they are.

    Raises UsageError where the model has another number of channels.
    """
    if "encoders" not in config["data"]:
        return config
    data = config["data"]
    source = FeatureSource(data["source"]["root"])
    made = source.made()
    if config["dim"] != made["dim"]:
        raise UsageError(f"{source.folder}: its tokens have {made['dim']} channels, the model {config['dim']}; "
                         f"set dim={made['dim']}")  # fmt: skip
    parts = {
        name: {"_target_": data["encoders"][name]["_target_"], "encoder": made[name]} for name in ("visual", "audio")
    }
    return {**config, **parts, "data": {**data, "clip": source.clip().to_dict()}}
