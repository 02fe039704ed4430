"""Train on tokens that frozen encoders computed once (mmattn data features), without decoding or encoding again.

The folder also contains the encoders, so neither their run nor the media is needed. The model gets frozen copies of
them, which are skipped while batches have tokens, so that the trained model predicts from files.
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
    """The output of `mmattn data features` in `root`. Labels in its manifest.jsonl may be edited."""

    root: str

    @property
    def folder(self) -> Path:
        """`root` as a path."""
        return expanded(self.root)

    def rows(self) -> list[Row]:
        """Every clip. Raises UsageError for features that are unfinished, missing or of another size than recorded."""
        made = self.made()
        for name, size in made["files"].items():
            file = self.folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise UsageError(f"{file}: not {size} bytes as written; copy it again or make the features again")
        return read_manifest(self.folder / MANIFEST_FILE)

    def made(self) -> dict[str, Any]:
        """The facts recorded when the folder was completed."""
        return read_made(self.folder, FEATURES_FILE, COMMAND)["made"]

    def clip(self) -> ClipSpec:
        """The clips that were encoded."""
        return ClipSpec(**self._recipe["clip"])

    def encoder_weights(self) -> dict[str, Tensor]:
        """The encoders' weights by their names in the model. Raises UsageError if others made the tokens."""
        made, weights = self.made(), load_file(self.folder / ENCODERS_FILE)
        if encoders_hash(weights, {name: made[name] for name in ("audio", "visual")}) != self._recipe["encoders"]:
            file = self.folder / ENCODERS_FILE
            raise UsageError(f"{file}: not the encoders that made the tokens; make the features again")
        return weights

    @property
    def _recipe(self) -> dict[str, Any]:
        return read_made(self.folder, FEATURES_FILE, COMMAND)["recipe"]


def encoders_hash(weights: Mapping[str, Tensor], configs: Mapping[str, Any]) -> str:
    """A hash of the encoders `visual` and `audio` of a model: their configs, and weights by their names in it."""
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def with_frozen_encoders(config: Config) -> Config:
    """For a config whose `data` is features, the config with their encoders and clip; others are returned unchanged.

    Raises UsageError if the model has another number of channels.
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
