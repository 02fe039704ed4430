"""Captions to token ids and back, with a tokenizer trained on the training captions or that of a model.

The rules and merges are those of the `tokenizers` library. This adds what captions need: start and end tokens, batches,
and which tokens form which word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, starmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["bpe", "word"]
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
MOST_KNOWN = 1 << 17  # cached captions, about 100 MB: further ones are tokenised each time
_WORD_MARK = "Ġ"  # the space before a word in byte-level pieces
_TIGHT = re.compile(r" ([.,;:!?%)\]}])")  # marks without a space before them


class TokenizedWord(NamedTuple):
    """A word of a caption and the indices of its tokens."""

    text: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class CaptionTokenizer:
    """A caption tokenizer. `definition`: in the JSON of the `tokenizers` library. `bos` may be `eos`, as in GPT-2.

    `lowercase`: whether captions are converted to lower case. `kind`: "bpe" or "word".
    """

    definition: str
    kind: Kind
    bos: int
    eos: int
    pad: int
    lowercase: bool = True

    @classmethod
    def learn(cls, captions: Iterable[str], kind: Kind, size: int, lowercase: bool = True) -> CaptionTokenizer:
        """Train on captions: at most `size` tokens, which are words, or byte-level pieces (Sennrich et al. 2016).

        Words beyond the `size` most frequent ones become <unk>; pieces can represent any text. Raises UsageError.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if kind not in get_args(Kind):
            raise UsageError(f"captions.tokenizer.kind={kind}: expected {', '.join(get_args(Kind))}")
        least = len(_SPECIAL) + (256 if kind == "bpe" else 1)
        if size < least:
            raise UsageError(f"captions.tokenizer.size={size}: expected {least} or more")
        texts = [_normal(caption, lowercase) for caption in captions]
        texts = [text for text in texts if text]
        if not texts:
            raise UsageError("no training clip has captions; captioning needs a 'captions' column")
        if kind == "word":
            tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # separates words and marks
            trainer = trainers.WordLevelTrainer(vocab_size=size, special_tokens=list(_SPECIAL), show_progress=False)
        else:
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=size,
                special_tokens=list(_SPECIAL),
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                show_progress=False,
            )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str(), kind, bos=1, eos=2, pad=0, lowercase=lowercase)

    @cached_property
    def _rules(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    @property
    def size(self) -> int:
        """The number of tokens."""
        return self._rules.get_vocab_size()

    @cached_property
    def _known(self) -> dict[str, tuple[int, ...]]:
        return {}

    def _ids(self, text: str) -> tuple[int, ...]:
        """Cached: every epoch uses the same captions."""
        ids = self._known.get(text)
        if ids is None:
            ids = tuple(self._rules.encode(_normal(text, self.lowercase), add_special_tokens=False).ids)
            if len(self._known) < MOST_KNOWN:
                self._known[text] = ids
        return ids

    def encode(self, text: str, max_length: int) -> list[int]:
        """The ids: bos, the first `max_length` tokens, and eos if there are no more."""
        ids = self._ids(text)
        return [self.bos, *ids[:max_length], *([self.eos] if len(ids) <= max_length else [])]

    def batch(self, texts: Sequence[str], max_length: int) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
        """Encoded texts, padded at the end, and the mask of real tokens."""
        rows = [self.encode(text, max_length) for text in texts]
        longest = max((len(row) for row in rows), default=0)
        tokens = torch.full((len(rows), longest), self.pad)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        lengths = torch.tensor([len(row) for row in rows])
        return tokens, torch.arange(longest) < lengths[:, None]

    def words(self, ids: Sequence[int]) -> list[TokenizedWord]:
        """The words of a caption (its tokens without bos and eos), each with the indices of its tokens in `ids`.

        A mark without a space before it belongs to the word before it.
        """
        pieces = [self._rules.id_to_token(i) or "" for i in ids]
        starts = [self._begins(piece) for piece in pieces]
        edges = [i for i, begins in enumerate(starts) if begins or i == 0]
        spans = list(starmap(range, pairwise([*edges, len(pieces)])))
        return [TokenizedWord(self.decode([ids[i] for i in span]), tuple(span)) for span in spans]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens without special ones. Bytes that are not UTF-8 become U+FFFD."""
        text = self._rules.decode(
            [i for i in ids if i not in (self.bos, self.eos, self.pad)], skip_special_tokens=False
        )
        return " ".join((_TIGHT.sub(r"\1", text) if self.kind == "word" else text).split())

    def _begins(self, piece: str) -> bool:
        if self.kind == "word":
            return not _TIGHT.fullmatch(f" {piece}")
        return piece.startswith(_WORD_MARK)

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        names = ("definition", "kind", "bos", "eos", "pad", "lowercase")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> CaptionTokenizer:
        """The reverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        own = cls(
            str(record["definition"]),
            record["kind"],
            *(int(record[name]) for name in ("bos", "eos", "pad")),
            lowercase=bool(record["lowercase"]),
        )
        if own.kind not in get_args(Kind):
            raise ValueError(f"kind {own.kind!r}")
        try:
            size = own.size
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(f"tokenizer: {error}") from None
        if not all(0 <= i < size for i in (own.bos, own.eos, own.pad)):
            raise ValueError(f"special tokens beyond a vocabulary of {size}")
        return own


def _normal(text: str, lowercase: bool) -> str:
    text = " ".join(text.encode("utf-8", "replace").decode().split())  # lone surrogates have no bytes
    return text.lower() if lowercase else text
