"""All caption metrics of a set of clips: BLEU, ROUGE-L, CIDEr-D, METEOR, word accuracy, exact captions. No Java.

A caption is a list of words (see `words_of`); a clip has one candidate and one or more references. BLEU, ROUGE-L and
CIDEr-D equal those of the MS COCO caption evaluation (Chen et al. 2015), given the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mmattn.metrics.captions.bleu import BleuCounts
from mmattn.metrics.captions.cider import Cider
from mmattn.metrics.captions.meteor import meteor
from mmattn.metrics.captions.rouge import rouge_l
from mmattn.metrics.captions.words import Words, words_of


def word_errors(candidate: Words, references: Sequence[Words]) -> tuple[int, int]:
    """Edits to the closest reference (relative to its length), and the number of words of that reference."""
    from torchaudio.functional import edit_distance

    errors = [(edit_distance(list(reference), list(candidate)), len(reference)) for reference in references]
    return min(errors, key=lambda error: error[0] / max(1, error[1]))


@dataclass(frozen=True)
class CaptionScores:
    """Metrics of `candidates` against `references`, both by clip id."""

    candidates: Mapping[str, str]
    references: Mapping[str, Sequence[str]]

    @cached_property
    def by_clip(self) -> dict[str, dict[str, float]]:
        """bleu_1 ... bleu_4, rouge_l, cider_d, word_accuracy (1 - word error rate), exact, and meteor with NLTK."""
        cider = Cider([self._references[name] for name in self.candidates])
        return {name: self._of(name, cider) for name in self.candidates}

    @cached_property
    def corpus(self) -> dict[str, float]:
        """Means over clips of `by_clip`, except BLEU of pooled counts and word accuracy of pooled errors."""
        names = list(self.candidates)
        if not names:
            return {}
        mean = {key: sum(self.by_clip[n][key] for n in names) / len(names) for key in self.by_clip[names[0]]}
        counts = [BleuCounts.of(self._words[name], self._references[name]) for name in names]
        total = counts[0]
        for count in counts[1:]:
            total += count
        mean |= {f"bleu_{n}": score for n, score in enumerate(total.scores(), start=1)}
        errors = [self._errors[name] for name in names]
        mean["word_accuracy"] = 1 - sum(e for e, _ in errors) / max(1, sum(words for _, words in errors))
        return mean

    @cached_property
    def _words(self) -> dict[str, list[str]]:
        return {name: words_of(text) for name, text in self.candidates.items()}

    @cached_property
    def _references(self) -> dict[str, list[list[str]]]:
        return {name: [words_of(text) for text in self.references[name]] for name in self.candidates}

    @cached_property
    def _errors(self) -> dict[str, tuple[int, int]]:
        return {name: word_errors(self._words[name], self._references[name]) for name in self.candidates}

    def _of(self, name: str, cider: Cider) -> dict[str, float]:
        own, references = self._words[name], self._references[name]
        errors, words = self._errors[name]
        scores = {f"bleu_{n}": v for n, v in enumerate(BleuCounts.of(own, references).scores(), start=1)}
        scores |= {"rouge_l": rouge_l(own, references), "cider_d": cider(own, references)}
        scores |= {"word_accuracy": 1 - errors / max(1, words), "exact": float(own in references)}
        if (value := meteor(own, references)) is not None:
            scores["meteor"] = value
        return scores
