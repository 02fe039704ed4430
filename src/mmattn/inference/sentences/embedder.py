"""Embeds sentences with a sentence-transformers model of a folder or a package."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError, first_line
from mmattn.inference.sentences.source import find_model

BATCH = 32
_UNUSED = ("pooler.", "embeddings.position_ids")  # weights of BERT that pooling over tokens does not use


class Sentences:
    """Called with N sentences, returns vectors (N, D) of length 1, whose products are cosines.

    `version`: SHA-256 of the weights. `key`: the setting that named `source`.
    """

    def __init__(self, source: str, device: str = "cpu", key: str = "embeddings") -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModel

        files = _Files(find_model(source, key))
        try:
            config = files.json("config.json")
            weights = files.read("model.safetensors") or b""
            self._tokenizer = Tokenizer.from_str((files.read("tokenizer.json") or b"").decode())
            self._model = AutoModel.from_config(AutoConfig.for_model(**config)).eval()
            loaded = self._model.load_state_dict(load(weights), strict=False)
        except Exception as error:  # the libraries raise many types for a damaged file
            raise UsageError(f"{key}={source}: cannot be loaded ({first_line(error)})") from None
        if missing := [name for name in loaded.missing_keys if not name.startswith(_UNUSED)]:
            raise UsageError(f"{key}={source}: has no weights {missing[0]} ({len(missing)} in all)")
        self._model.to(device)
        self._device = device
        self._uses_first_token = bool(files.json("1_Pooling/config.json").get("pooling_mode_cls_token", False))
        length = files.json("sentence_bert_config.json").get("max_seq_length") or config["max_position_embeddings"]
        self._tokenizer.enable_truncation(int(length))
        self._tokenizer.enable_padding(pad_id=config.get("pad_token_id") or 0)
        self.version = hashlib.sha256(weights).hexdigest()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Embed `texts`, in batches of similar length so that little is padded."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows: list[Tensor | None] = [None] * len(texts)
        for first in range(0, len(order), BATCH):
            here = order[first : first + BATCH]
            for i, row in zip(here, self._embed([texts[i] for i in here]), strict=True):
                rows[i] = row
        return torch.stack([row for row in rows if row is not None]) if rows else torch.zeros(0, 0)

    def _embed(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded], device=self._device)
        mask = torch.tensor([each.attention_mask for each in encoded], device=self._device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        keep = mask[:, :, None].to(hidden.dtype)
        mean = (hidden * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
        pooled = hidden[:, 0] if self._uses_first_token else mean
        return torch.nn.functional.normalize(pooled.float(), dim=1).cpu()


class _Files:
    """The files of a model in a folder or a zip."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None if it does not exist."""
        if self._place.is_dir():
            file = self._place / name
            return file.read_bytes() if file.is_file() else None
        with zipfile.ZipFile(self._place) as archive:
            return archive.read(name) if name in archive.namelist() else None

    def json(self, name: str) -> dict[str, Any]:
        """The contents of a JSON file, {} if it does not exist."""
        return json.loads(self.read(name) or b"{}")
