"""Text towers of transformers: CLIP, SigLIP, SigLIP 2 and CLAP, from a local folder, for embeddings of tags.

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
from mmattn.errors import UsageError

_WANTED = "the config.json, tokenizer.json and *.safetensors of a CLIP, SigLIP or CLAP model into one folder"
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_AT_ONCE = 64  # texts


def _as_it_is(text: str) -> str:
    return text


def _lower(text: str) -> str:
    return text.lower()


def _plain(text: str) -> str:
    """What SigLIP was trained on: lower case, no punctuation, single blanks."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()


@dataclass(frozen=True)
class _Tower:
    """`output`: of the model, the field that the other modality's embedding is compared with. `filled`: texts are
    padded to the most places there are and nothing is masked, as it was trained. `clean`: what is done to a text."""

    family: Family
    output: str
    filled: bool = False
    clean: Callable[[str], str] = _as_it_is


_TOWERS = {
    "clip": _Tower(
        Family("CLIP", "clip_text_model", "CLIPTextConfig", "CLIPTextModelWithProjection", {"clip": "text_config"}),
        "text_embeds",
    ),
    "siglip": _Tower(
        Family("SigLIP", "siglip_text_model", "SiglipTextConfig", "SiglipTextModel", {"siglip": "text_config"}),
        "pooler_output",
        filled=True,
        clean=_plain,
    ),
    "siglip2": _Tower(
        Family("SigLIP 2", "siglip2_text_model", "Siglip2TextConfig", "Siglip2TextModel", {"siglip2": "text_config"}),
        "pooler_output",
        filled=True,
        clean=_lower,
    ),
    "clap": _Tower(
        Family("CLAP", "clap_text_model", "ClapTextConfig", "ClapTextModelWithProjection", {"clap": "text_config"}),
        "text_embeds",
    ),
}


class TextEncoder:
    """Texts -> embeddings of length 1, as the model compares them with pictures or sounds."""

    def __init__(self, pretrained: str, hub: bool = False, device: str = "cpu") -> None:
        """`pretrained`: a folder with config.json, tokenizer.json and *.safetensors. Raises UsageError."""
        folder = locate(pretrained, hub, _WANTED)
        if not folder.is_dir():
            raise UsageError(f"pretrained={pretrained}: expected a folder; download {_WANTED}")
        kind = str(read_json(folder / "config.json").get("model_type")).removesuffix("_text_model")
        if kind not in _TOWERS:
            raise UsageError(f"{folder}: holds a {kind!r} model; texts are embedded by {', '.join(_TOWERS)}")
        self.tower = _TOWERS[kind]
        self.tokenizer = _tokenizer(folder)
        settings = folder / "tokenizer_config.json"
        made_for = read_json(settings).get("tokenizer_class") if settings.is_file() else None
        # SigLIP 2 of fixed sizes calls itself SigLIP, but its texts keep their punctuation.
        self.clean = _lower if kind == "siglip" and "Gemma" in str(made_for) else self.tower.clean
        self.device = device
        self.model = build_model(self.tower.family, str(folder), False, {}).model.eval().to(device)
        self.places = int(self.model.config.max_position_embeddings)
        self.filler = _padding(folder, self.tokenizer) if self.tower.filled else 0
        if self.tokenizer.get_vocab_size() > self.model.config.vocab_size:
            raise UsageError(
                f"{folder}: its tokenizer has {self.tokenizer.get_vocab_size()} tokens, and its model knows "
                f"{self.model.config.vocab_size}; they are of two models"
            )

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N E"]:
        """Raises UsageError for a text of more tokens than the model has places."""
        return torch.cat([part for _, part in self.embedded(texts)])

    def embedded(self, texts: Sequence[str]) -> Iterator[tuple[int, Float[Tensor, "n E"]]]:
        """Embeddings in the order of the texts, some at a time, with how many texts are done by then."""
        tokens = [self._tokens(text) for text in texts]
        for start in range(0, len(texts), _AT_ONCE):
            part = tokens[start : start + _AT_ONCE]
            yield start + len(part), self._embed(part)

    @torch.inference_mode()
    def _embed(self, tokens: list[list[int]]) -> Float[Tensor, "n E"]:
        """Texts of one length at a time, so that nothing has to be padded that was not so in training."""
        found: dict[int, Tensor] = {}
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for _, group in itertools.groupby(order, key=lambda i: len(tokens[i])):
            places = list(group)
            ids = torch.tensor([tokens[i] for i in places], device=self.device)
            rows = getattr(self.model(input_ids=ids), self.tower.output).float().cpu()
            found.update(zip(places, torch.nn.functional.normalize(rows, dim=1), strict=True))
        return torch.stack([found[i] for i in range(len(tokens))])

    def _tokens(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(self.clean(text)).ids
        if len(ids) > self.places:
            raise UsageError(f"{text[:60]!r} has {len(ids)} tokens, and the text encoder has {self.places} places")
        if self.tower.filled:
            ids = ids + [self.filler] * (self.places - len(ids))
        return ids


def _padding(folder: Path, tokenizer: Any) -> int:
    """The id of what the tokenizer fills texts up with. The model's config names another. Raises UsageError."""
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        named = read_json(file).get("pad_token") if file.is_file() else None
        token = named.get("content") if isinstance(named, dict) else named
        if token is not None and (found := tokenizer.token_to_id(str(token))) is not None:
            return found
    raise UsageError(f"{folder}: no tokenizer_config.json names a pad_token; download it with the model's other files")


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UsageError(f"{folder}: holds no tokenizer.json; download {_WANTED}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower kind
        raise UsageError(f"{file}: is no tokenizer ({(str(error).splitlines() or [''])[0][:150]})") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
