"""Text towers of transformers for embeddings of tags: CLIP, SigLIP, SigLIP 2 and CLAP, from a local folder.

Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Wu et al. 2023 (CLAP).
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.weights import locate, read_json
from mmattn.errors import UsageError, first_line

_WANTED = "the config.json, tokenizer.json and *.safetensors of a CLIP, SigLIP or CLAP model into one folder"
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BATCH_SIZE = 64


def _plain(text: str) -> str:
    """The texts that SigLIP was trained on: lower case, no punctuation, single blanks."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()


@dataclass(frozen=True)
class _TextTower:
    """`output`: the field of the model's output that is the joint embedding.

    `padded`: texts are padded to the maximum length without a mask, as in training. `clean`: applied to each text.
    """

    family: Family
    output: str
    padded: bool = False
    clean: Callable[[str], str] = str


_TOWERS = {
    "clip": _TextTower(
        Family("CLIP", "clip_text_model", "CLIPTextConfig", "CLIPTextModelWithProjection", {"clip": "text_config"}),
        "text_embeds",
    ),
    "siglip": _TextTower(
        Family("SigLIP", "siglip_text_model", "SiglipTextConfig", "SiglipTextModel", {"siglip": "text_config"}),
        "pooler_output",
        padded=True,
        clean=_plain,
    ),
    "siglip2": _TextTower(
        Family("SigLIP 2", "siglip2_text_model", "Siglip2TextConfig", "Siglip2TextModel", {"siglip2": "text_config"}),
        "pooler_output",
        padded=True,
        clean=str.lower,
    ),
    "clap": _TextTower(
        Family("CLAP", "clap_text_model", "ClapTextConfig", "ClapTextModelWithProjection", {"clap": "text_config"}),
        "text_embeds",
    ),
}


class TextEncoder:
    """Texts -> embeddings of length 1 in the joint space of the model."""

    def __init__(self, pretrained: str, hub: bool = False, device: str = "cpu") -> None:
        """`pretrained`: a folder with config.json, tokenizer.json and *.safetensors. Raises UsageError."""
        folder = locate(pretrained, hub, _WANTED)
        if not folder.is_dir():
            raise UsageError(f"pretrained={pretrained}: expected a folder; download {_WANTED}")
        kind = str(read_json(folder / "config.json").get("model_type")).removesuffix("_text_model")
        if kind not in _TOWERS:
            raise UsageError(f"{folder}: holds a {kind!r} model; supported for texts are {', '.join(_TOWERS)}")
        self.tower = _TOWERS[kind]
        self.tokenizer = _tokenizer(folder)
        settings = folder / "tokenizer_config.json"
        tokenizer_class = read_json(settings).get("tokenizer_class") if settings.is_file() else None
        # SigLIP 2 with fixed sizes has the model_type of SigLIP, but its texts keep their punctuation.
        self.clean = str.lower if kind == "siglip" and "Gemma" in str(tokenizer_class) else self.tower.clean
        self.device = device
        self.model = build_model(self.tower.family, str(folder), False, {}).model.eval().to(device)
        self.max_length = int(self.model.config.max_position_embeddings)
        self.pad = _pad_token(folder, self.tokenizer) if self.tower.padded else 0
        if self.tokenizer.get_vocab_size() > self.model.config.vocab_size:
            raise UsageError(
                f"{folder}: its tokenizer has {self.tokenizer.get_vocab_size()} tokens, but its model only "
                f"{self.model.config.vocab_size}; download both from one model"
            )

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N E"]:
        """Raises UsageError for a text with more tokens than the model has positions."""
        return torch.cat([part for _, part in self.embedded(texts)])

    def embedded(self, texts: Sequence[str]) -> Iterator[tuple[int, Float[Tensor, "n E"]]]:
        """Embeddings in the order of the texts, batch by batch, each with the number of texts done so far."""
        tokens = [self._tokens(text) for text in texts]
        for start in range(0, len(texts), _BATCH_SIZE):
            part = tokens[start : start + _BATCH_SIZE]
            yield start + len(part), self._embed(part)

    @torch.inference_mode()
    def _embed(self, tokens: list[list[int]]) -> Float[Tensor, "n E"]:
        """Texts of one length run together, so that nothing is padded that was not padded in training."""
        found: dict[int, Tensor] = {}
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for _, group in itertools.groupby(order, key=lambda i: len(tokens[i])):
            indices = list(group)
            ids = torch.tensor([tokens[i] for i in indices], device=self.device)
            rows = getattr(self.model(input_ids=ids), self.tower.output).float().cpu()
            found.update(zip(indices, torch.nn.functional.normalize(rows, dim=1), strict=True))
        return torch.stack([found[i] for i in range(len(tokens))])

    def _tokens(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(self.clean(text)).ids
        if len(ids) > self.max_length:
            raise UsageError(
                f"{text[:60]!r} has {len(ids)} tokens, the text encoder takes {self.max_length}; shorten it"
            )
        if self.tower.padded:
            ids = ids + [self.pad] * (self.max_length - len(ids))
        return ids


def _pad_token(folder: Path, tokenizer: Any) -> int:
    """The id of the tokenizer's padding, which is not that of the model's config. Raises UsageError."""
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        named = read_json(file).get("pad_token") if file.is_file() else None
        token = named.get("content") if isinstance(named, dict) else named
        if token is not None and (found := tokenizer.token_to_id(str(token))) is not None:
            return found
    raise UsageError(f"{folder}: no tokenizer_config.json with a pad_token; download it with the model's other files")


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UsageError(f"{folder}: no tokenizer.json in this folder; download {_WANTED}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower class
        raise UsageError(f"{file}: not a tokenizer ({first_line(error)[:150]})") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
