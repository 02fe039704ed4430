"""How good captions are: BLEU, ROUGE-L, CIDEr-D, word accuracy, exact captions. No Java.

A caption is a list of words (see `words_of`); a clip has one candidate and one or more references. Each metric gives a
value for each clip, and BLEU, whose counts are pooled, one for the corpus as well. BLEU, ROUGE-L and CIDEr-D are those
of the MS COCO caption evaluation (Chen et al. 2015), value for value, given the same words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Words = Sequence[str]
NGRAMS = 4
_BETA = 1.2  # ROUGE-L: the weight of recall
_SIGMA = 6.0  # CIDEr-D: the width of its length penalty
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Lower-case words without marks, as caption metrics compare them."""
    return _WORD.findall(text.lower())


def ngrams(words: Words, most: int = NGRAMS) -> Counter[tuple[str, ...]]:
    """How often each run of 1 to `most` words occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1))


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU counts in one clip: n-grams of the candidate that a reference has, all of them, and both lengths."""

    matched: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference: int  # the length of the reference that is closest in length, of equals the shorter

    @classmethod
    def of(cls, candidate: Words, references: Sequence[Words]) -> BleuCounts:
        found, most = ngrams(candidate), Counter()
        for reference in references:
            most |= ngrams(reference)
        matched = Counter()
        for gram, count in found.items():
            matched[len(gram)] += min(count, most[gram])
        return cls(
            tuple(matched[n] for n in range(1, NGRAMS + 1)),
            tuple(max(0, len(candidate) - n + 1) for n in range(1, NGRAMS + 1)),
            len(candidate),
            min((len(reference) for reference in references), key=lambda n: (abs(n - len(candidate)), n)),
        )

    def __add__(self, other: BleuCounts) -> BleuCounts:
        return BleuCounts(
            tuple(a + b for a, b in zip(self.matched, other.matched, strict=True)),
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            self.length + other.length,
            self.reference + other.reference,
        )

    def scores(self) -> tuple[float, ...]:
        """BLEU-1 to BLEU-4: the geometric mean of precisions, with the brevity penalty (Papineni et al. 2002)."""
        small, tiny = 1e-9, 1e-15  # of the COCO evaluation: a precision of 0 / 0 is 1e-6
        ratio = (self.length + tiny) / (self.reference + small)
        penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        product, scores = 1.0, []
        for n, (matched, total) in enumerate(zip(self.matched, self.total, strict=True), start=1):
            product *= (matched + tiny) / (total + small)
            scores.append(product ** (1 / n) * penalty)
        return tuple(scores)


def rouge_l(candidate: Words, references: Sequence[Words]) -> float:
    """F-measure of the longest common subsequence, best precision and best recall over references (Lin 2004)."""
    common = [_common(candidate, reference) for reference in references]
    precision = max((c / len(candidate) for c in common), default=0.0) if candidate else 0.0
    recall = max((c / len(r) for c, r in zip(common, references, strict=True) if r), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(a: Words, b: Words) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


class Cider:
    """CIDEr-D (Vedantam et al. 2015), with document frequencies of `references` (one list of captions a clip).

    0 to 10. Of a single clip every n-gram is in every document, so nothing is telling and all scores are 0.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        self.documents = Counter(
            gram for captions in references for gram in {g for caption in captions for g in ngrams(caption)}
        )
        self.clips = math.log(max(1, len(references)))

    def __call__(self, candidate: Words, references: Sequence[Words]) -> float:
        """The mean over 1 to 4 words and over references of the cosine of their tf-idf vectors, times 10."""
        own = self._vectors(candidate)
        return sum(self._likeness(own, self._vectors(r)) for r in references) / max(1, len(references)) * 10

    def _vectors(self, words: Words) -> _Vectors:
        weights: dict[tuple[str, ...], float] = {}
        norms = [0.0] * NGRAMS
        for gram, count in ngrams(words).items():
            weight = count * (self.clips - math.log(max(1.0, self.documents[gram])))
            weights[gram] = weight
            norms[len(gram) - 1] += weight**2
        return _Vectors(weights, [math.sqrt(norm) for norm in norms], max(0, len(words) - 1))

    @staticmethod
    def _likeness(own: _Vectors, other: _Vectors) -> float:
        dots = [0.0] * NGRAMS
        for gram, weight in own.weights.items():
            if (there := other.weights.get(gram)) is not None:
                dots[len(gram) - 1] += min(weight, there) * there
        cosines = [dot / (a * b) if a and b else 0.0 for dot, a, b in zip(dots, own.norms, other.norms, strict=True)]
        # The evaluation's length is the count of its bigrams.
        return sum(cosines) / NGRAMS * math.exp(-((own.length - other.length) ** 2) / (2 * _SIGMA**2))


@dataclass(frozen=True)
class _Vectors:
    weights: dict[tuple[str, ...], float]
    norms: list[float]
    length: int


def word_errors(candidate: Words, references: Sequence[Words]) -> tuple[int, int]:
    """Edits to the reference that is closest (relative to its length), and the words of that reference."""
    from torchaudio.functional import edit_distance

    errors = [(edit_distance(list(reference), list(candidate)), len(reference)) for reference in references]
    return min(errors, key=lambda error: error[0] / max(1, error[1]))


def meteor(candidate: Words, references: Sequence[Words]) -> float | None:
    """METEOR of exact and stemmed matches, without its synonyms (Banerjee & Lavie 2005); None without NLTK."""
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        return None
    if not candidate:
        return 0.0
    return float(meteor_score([list(r) for r in references], list(candidate), wordnet=_NoSynonyms()))  # type: ignore[arg-type]


class _NoSynonyms:
    """Stands where NLTK would ask for WordNet, which it has to download."""

    def synsets(self, word: str) -> list[str]:
        return []


@dataclass(frozen=True)
class CaptionScores:
    """All metrics of a set of clips, by their ids."""

    candidates: Mapping[str, str]
    references: Mapping[str, Sequence[str]]

    @cached_property
    def by_clip(self) -> dict[str, dict[str, float]]:
        """bleu_1 ... bleu_4, rouge_l, cider_d, word_accuracy (1 - word error rate), exact, and meteor with NLTK."""
        cider = Cider([self._references[name] for name in self.candidates])
        return {name: self._of(name, cider) for name in self.candidates}

    @cached_property
    def corpus(self) -> dict[str, float]:
        """As `by_clip`, means over clips, but BLEU of pooled counts and word accuracy of pooled errors."""
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
