"""What a caption decoder is: it turns fused streams into a loss in training and into captions at inference.

Shape legend: B clips, L tokens of a caption, V tokens of the vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError
from mmattn.tasks.captioning.decoding import DecodedCaptions, Decoding, changed
from mmattn.tasks.captioning.search import Search, State
from mmattn.tasks.distributed import each_process
from mmattn.types import Batch, Fused, Modality


@dataclass(frozen=True)
class Read:
    """`logits` after each token; `mass`: the attention on each modality when that token was predicted.

    The mass is the mean over heads and layers; it sums to 1, or is 0 if there was nothing to attend to. None if the
    decoder does not report it.
    """

    logits: Float[Tensor, "B L V"]
    mass: dict[Modality, Float[Tensor, "B L"]] | None = None


class Captioner(nn.Module):
    """`max_length`: tokens of the longest caption. `decoding`: the default settings of the search.

    `label_smoothing` in [0, 1) spreads this share of the target over the vocabulary (Szegedy et al. 2016).
    """

    def __init__(
        self, tokenizer: CaptionTokenizer, max_length: int, label_smoothing: float, decoding: Decoding
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"captions.label_smoothing={label_smoothing}: expected at least 0 and below 1")
        if max_length < 1:
            raise UsageError(f"captions.max_length={max_length}: expected 1 or more")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.label_smoothing = label_smoothing
        self.decoding = decoding
        self.check_length(decoding)

    @abstractmethod
    def start(self, fused: Fused) -> State:
        """The state of the decoder before the first token, with a row for each clip."""

    @abstractmethod
    def read(self, fused: Fused, tokens: Int[Tensor, "B L"], *, mass: bool = False) -> Read:
        """Teacher forcing: the logits of the token after each of `tokens`, given all before it. The first is bos."""

    def check_length(self, decoding: Decoding) -> None:
        """Raises UsageError for captions longer than the decoder has positions."""
        if decoding.max_length > self.max_length + 1:
            raise UsageError(
                f"decoding.max_length={decoding.max_length}: expected at most {self.max_length + 1}, the trained "
                f"captions.max_length={self.max_length} and the end mark"
            )

    def set_decoding(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the search. Raises UsageError."""
        decoding = changed(self.decoding, changes)
        self.check_length(decoding)
        self.decoding = decoding

    def loss(self, fused: Fused, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy in nats, the mean over the tokens of each clip's first caption.

        Clips that have no caption or are not real are left out. A batch without captions has loss 0.
        """
        texts = [captions[0] if captions else "" for captions in batch.captions]
        captioned = torch.tensor([bool(captions) for captions in batch.captions], device=batch.real.device) & batch.real
        tokens, keep = (part.to(captioned.device) for part in self.tokenizer.batch(texts, self.max_length))
        keep = keep[:, 1:] & captioned[:, None]
        logits = self.read(fused, tokens[:, :-1]).logits.float()
        losses = cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none", label_smoothing=self.label_smoothing
        )
        return (losses * keep.flatten()).sum() / each_process(keep.sum())

    @torch.no_grad()
    def generate(self, fused: Fused, decoding: Decoding | None = None, ids: Sequence[str] = ()) -> DecodedCaptions:
        """A caption for each clip, with a key-value cache. `ids`: see Search."""
        search = Search(decoding or self.decoding, self.tokenizer.bos, self.tokenizer.eos, self.tokenizer.pad)
        keep = fused.video.keep
        return search(self.start(fused), len(keep), keep.device, ids)

    def texts(self, decoded: DecodedCaptions) -> list[str]:
        """The captions as text."""
        return [self.tokenizer.decode(ids) for ids in _lists(decoded)]

    def log_probs(self, fused: Fused, decoded: DecodedCaptions, *, mass: bool = False) -> tuple[Tensor, Read]:
        """The log probability (B, L) of each decoded token given those before it, 0 for padding; and the Read."""
        bos = torch.full_like(decoded.tokens[:, :1], self.tokenizer.bos)
        read = self.read(fused, torch.cat([bos, decoded.tokens[:, :-1]], dim=1), mass=mass)
        found = torch.log_softmax(read.logits.float(), dim=2).gather(2, decoded.tokens[..., None])[..., 0]
        return torch.where(decoded.keep, found, 0.0), read


def _lists(decoded: DecodedCaptions) -> list[list[int]]:
    lengths: Bool[Tensor, " B"] = decoded.keep.sum(dim=1)
    return [row[:n] for row, n in zip(decoded.tokens.tolist(), lengths.tolist(), strict=True)]
