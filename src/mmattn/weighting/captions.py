"""What captions owe to sound and to picture: each word of a caption, and how good captions are without either.

Shape legend: B clips, L tokens of a caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.metrics.bootstrap import interval, resamples
from mmattn.metrics.captions.scores import CaptionScores
from mmattn.tasks.captioning.decoding import DecodedCaptions, Decoding
from mmattn.tasks.captioning.interface import Captioner
from mmattn.types import MODALITIES, Batch, Fused, Modality, Tokens
from mmattn.weighting.causal import SUBSETS, ShapleySplit, Subset, shapley

SPLIT_METRICS = ("cider_d", "word_accuracy", "exact", "bleu_4", "rouge_l")  # whose Shapley split is reported


@dataclass(frozen=True)
class WordWeight:
    """One word of a caption.

    `video`, `audio`, `synergy`: the Shapley split of its log probability given the words before it, in nats: how much
    likelier it became by each. `mass`: the decoder's attention on sound while it was written, in [0, 1], where told.
    """

    word: str
    video: float
    audio: float
    synergy: float
    mass: float | None

    def to_dict(self) -> dict[str, Any]:
        parts = {"video": self.video, "audio": self.audio, "synergy": self.synergy}
        mass = {} if self.mass is None else {"attention": round(self.mass, 4)}
        return {"word": self.word, **{name: round(value, 4) for name, value in parts.items()}, **mass}


@dataclass(frozen=True)
class WeighedCaption:
    """`score`: see DecodedCaptions."""

    text: str
    score: float
    words: tuple[WordWeight, ...]


def captions_with_weights(
    captioner: Captioner, fusions: Mapping[Subset, Fused], decoding: Decoding | None = None, ids: Iterable[str] = ()
) -> list[WeighedCaption]:
    """A caption for each clip, from both modalities, with what each word owes to which. `fusions`: subset_fusions."""
    decoded = captioner.generate(fusions["both"], decoding, tuple(ids))
    split, mass = word_split(captioner, fusions, decoded)
    parts = [part.cpu() for part in (split.video, split.audio, split.synergy)]
    heard = None if mass is None else mass["audio"].float().cpu()
    scores, tokens = decoded.score.tolist(), decoded.tokens.tolist()
    captions = []
    for i, text in enumerate(captioner.texts(decoded)):
        ids_ = [token for token in tokens[i] if token not in _marks(captioner)]
        words = []
        for word in captioner.tokenizer.words(ids_):
            at = list(word.places)
            video, audio, synergy = (float(part[i, at].sum()) for part in parts)
            share = None if heard is None else float(heard[i, at].mean())
            words.append(WordWeight(word.text, video, audio, synergy, share))
        captions.append(WeighedCaption(text, scores[i], tuple(words)))
    return captions


def word_split(
    captioner: Captioner, fusions: Mapping[Subset, Fused], decoded: DecodedCaptions
) -> tuple[ShapleySplit[Float[Tensor, "B L"]], dict[Modality, Float[Tensor, "B L"]] | None]:
    """The Shapley split of each token's log probability, given the caption, and the attention mass on each modality.

    phi_video + phi_audio = log p(token | both) - log p(token | neither), for every token.
    """
    said: dict[Subset, Tensor] = {}
    mass = None
    for subset in SUBSETS:
        fused = expanded(fusions[subset], len(decoded.tokens))
        said[subset], read = captioner.said(fused, decoded, mass=subset == "both")
        mass = read.mass if subset == "both" else mass
    return shapley(said), mass


def expanded(fused: Fused, clips: int) -> Fused:
    """One clip that stands for all, as so many."""

    def one(tokens: Tokens) -> Tokens:
        if len(tokens.keep) == clips:
            return tokens
        return Tokens(
            tokens.values.expand(clips, -1, -1), tokens.keep.expand(clips, -1), tokens.times.expand(clips, -1)
        )

    return Fused(one(fused.video), one(fused.audio))


def _marks(captioner: Captioner) -> tuple[int, ...]:
    tokenizer = captioner.tokenizer
    return tokenizer.bos, tokenizer.eos, tokenizer.pad


class CaptionEvaluation:
    """Captions on each subset of modalities, against their references. Feed it batches, `merge`, read `result`."""

    def __init__(self) -> None:
        self._references: dict[str, tuple[str, ...]] = {}
        self._texts: dict[str, dict[Subset, str]] = {}
        self._words: dict[str, tuple[WordWeight, ...]] = {}

    def update(self, captioner: Captioner, fusions: Mapping[Subset, Fused], batch: Batch) -> None:
        """Caption one batch (no gradient). Clips without references, or not real, stay out."""
        with torch.no_grad():
            whole = captions_with_weights(captioner, fusions, ids=batch.ids)
            texts: dict[Subset, list[str]] = {
                subset: [caption.text for caption in whole]
                if subset == "both"
                else self._captions(captioner, fusions[subset], batch.ids)
                for subset in SUBSETS
            }
        for i, (name, references, real) in enumerate(zip(batch.ids, batch.captions, batch.real.tolist(), strict=True)):
            if real and references:
                self._references[name] = tuple(sorted(references))
                self._texts[name] = {subset: texts[subset][i] for subset in SUBSETS}
                self._words[name] = whole[i].words

    @staticmethod
    def _captions(captioner: Captioner, fused: Fused, ids: tuple[str, ...]) -> list[str]:
        if len(fused.video.keep) == len(ids):
            return captioner.texts(captioner.generate(fused, ids=ids))
        return captioner.texts(captioner.generate(fused, ids=("",))) * len(ids)

    def merge(self, others: Iterable[CaptionEvaluation]) -> None:
        for other in others:
            self._references.update(other._references)
            self._texts.update(other._texts)
            self._words.update(other._words)

    def result(self, resampled: int = 0) -> dict[str, Any] | None:
        """Metrics, their Shapley split, and what words owe to what. Plain data; None where nothing was captioned.

        `resampled`: that often clips are drawn anew for 95 % intervals of the splits, those of means over clips.
        """
        if not self._texts:
            return None
        ids = sorted(self._texts)
        scores = self._scores(ids)
        corpus = {subset: scores[subset].corpus for subset in SUBSETS}
        counts = resamples(len(ids), resampled).double() if resampled else None
        record: dict[str, Any] = {"clips": len(ids), "metrics": corpus["both"], "shapley": {}}
        for metric in SPLIT_METRICS:
            value: dict[Subset, float] = {subset: corpus[subset][metric] for subset in SUBSETS}
            record["shapley"][metric] = {"value": value, **vars(shapley(value))}
            if counts is not None:
                each: dict[Subset, Tensor] = {
                    s: torch.tensor([scores[s].by_clip[n][metric] for n in ids]).double() for s in SUBSETS
                }
                drawn: dict[Subset, Tensor] = {s: counts @ values / len(ids) for s, values in each.items()}
                edges = {part: interval(values) for part, values in vars(shapley(drawn)).items()}
                record["shapley"][metric]["interval"] = edges
        record["words"] = self._word_shares(ids)
        return record

    def clips(self) -> dict[str, dict[str, Any]]:
        """By id: the caption, what it is with each modality alone, references, metrics, and its words' weights."""
        ids = sorted(self._texts)
        scores = self._scores(ids)["both"].by_clip if ids else {}
        return {
            name: {
                "caption": self._texts[name]["both"],
                "alone": {m: self._texts[name][m] for m in MODALITIES},
                "references": list(self._references[name]),
                "metrics": scores[name],
                "words": [word.to_dict() for word in self._words[name]],
            }
            for name in ids
        }

    def _scores(self, ids: list[str]) -> dict[Subset, CaptionScores]:
        return {s: CaptionScores({name: self._texts[name][s] for name in ids}, self._references) for s in SUBSETS}

    def _word_shares(self, ids: list[str]) -> dict[str, Any]:
        """Means over all words: of the split of their log probabilities, and of the attention on sound."""
        words = [word for name in ids for word in self._words[name]]
        if not words:
            return {"count": 0}
        mean = {part: sum(getattr(word, part) for word in words) / len(words) for part in (*MODALITIES, "synergy")}
        looked = [word.mass for word in words if word.mass is not None]
        return {"count": len(words), **mean, "attention": sum(looked) / len(looked) if looked else None}
