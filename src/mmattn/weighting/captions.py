"""How much of a caption comes from video and from audio: for each word, and for the quality of captions.

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

SPLIT_METRICS = ("cider_d", "word_accuracy", "exact", "bleu_4", "rouge_l")  # metrics with a reported Shapley split


@dataclass(frozen=True)
class WordWeight:
    """One word of a caption.

    `video`, `audio`, `synergy`: the Shapley split of its log probability given the words before it, in nats. `mass`:
    the share of the decoder's attention on audio at this word, in [0, 1]; None if the decoder does not report it.
    """

    word: str
    video: float
    audio: float
    synergy: float
    mass: float | None

    def to_dict(self) -> dict[str, Any]:
        """For a record, rounded."""
        parts = {"video": self.video, "audio": self.audio, "synergy": self.synergy}
        mass = {} if self.mass is None else {"attention": round(self.mass, 4)}
        return {"word": self.word, **{name: round(value, 4) for name, value in parts.items()}, **mass}


@dataclass(frozen=True)
class WeighedCaption:
    """A caption with its `score` (see DecodedCaptions) and the weights of its words."""

    text: str
    score: float
    words: tuple[WordWeight, ...]


def captions_with_weights(
    captioner: Captioner, fusions: Mapping[Subset, Fused], decoding: Decoding | None = None, ids: Iterable[str] = ()
) -> list[WeighedCaption]:
    """A caption for each clip, from both modalities, with the split of each word. `fusions`: see subset_fusions."""
    decoded = captioner.generate(fusions["both"], decoding, tuple(ids))
    split, mass = word_split(captioner, fusions, decoded)
    parts = [part.cpu() for part in (split.video, split.audio, split.synergy)]
    on_audio = None if mass is None else mass["audio"].float().cpu()
    scores, tokens = decoded.score.tolist(), decoded.tokens.tolist()
    captions = []
    for i, text in enumerate(captioner.texts(decoded)):
        ids_ = [token for token in tokens[i] if token not in _marks(captioner)]
        words = []
        for word in captioner.tokenizer.words(ids_):
            at = list(word.places)
            video, audio, synergy = (float(part[i, at].sum()) for part in parts)
            share = None if on_audio is None else float(on_audio[i, at].mean())
            words.append(WordWeight(word.text, video, audio, synergy, share))
        captions.append(WeighedCaption(text, scores[i], tuple(words)))
    return captions


def word_split(
    captioner: Captioner, fusions: Mapping[Subset, Fused], decoded: DecodedCaptions
) -> tuple[ShapleySplit[Float[Tensor, "B L"]], dict[Modality, Float[Tensor, "B L"]] | None]:
    """The Shapley split of each token's log probability, given the caption, and the attention mass on each modality.

    phi_video + phi_audio = log p(token | both) - log p(token | neither), for every token.
    """
    log_probs: dict[Subset, Tensor] = {}
    mass = None
    for subset in SUBSETS:
        fused = expanded(fusions[subset], len(decoded.tokens))
        log_probs[subset], read = captioner.log_probs(fused, decoded, mass=subset == "both")
        mass = read.mass if subset == "both" else mass
    return shapley(log_probs), mass


def expanded(fused: Fused, clips: int) -> Fused:
    """The one clip of a fusion that represents all clips, expanded to `clips` of them."""

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
    """Captions from each subset of modalities against their references: `update` by batches, `merge`, `result`."""

    def __init__(self) -> None:
        self._references: dict[str, tuple[str, ...]] = {}
        self._texts: dict[str, dict[Subset, str]] = {}
        self._words: dict[str, tuple[WordWeight, ...]] = {}

    def update(self, captioner: Captioner, fusions: Mapping[Subset, Fused], batch: Batch) -> None:
        """Caption one batch (no gradient). Clips that have no references or are not real are left out."""
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
        """Add the clips of other processes."""
        for other in others:
            self._references.update(other._references)
            self._texts.update(other._texts)
            self._words.update(other._words)

    def result(self, resampled: int = 0) -> dict[str, Any] | None:
        """Metrics, their Shapley splits and the mean split of words, as plain data; None without captioned clips.

        `resampled`: the number of bootstrap resamples for 95 % intervals of the splits, of means over clips; 0: none.
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
        """By clip id: the caption, those from one modality alone, references, metrics and the weights of its words."""
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
        """Means over all words: of the split of their log probabilities, and of the attention on audio."""
        words = [word for name in ids for word in self._words[name]]
        if not words:
            return {"count": 0}
        mean = {part: sum(getattr(word, part) for word in words) / len(words) for part in (*MODALITIES, "synergy")}
        masses = [word.mass for word in words if word.mass is not None]
        return {"count": len(words), **mean, "attention": sum(masses) / len(masses) if masses else None}
