"""Caption metrics equal the COCO evaluation's, value for value, and mean what they say."""

from __future__ import annotations

import random

import pytest

from mmattn.metrics.captions.bleu import BleuCounts
from mmattn.metrics.captions.cider import Cider
from mmattn.metrics.captions.rouge import rouge_l
from mmattn.metrics.captions.scores import CaptionScores, word_errors
from mmattn.metrics.captions.words import words_of

WORDS = "a the cat dog sits runs on mat grass and barks red blue big small near house at night".split()


def corpus(seed: int, clips: int = 30) -> tuple[dict[str, list[str]], dict[str, str]]:
    rng = random.Random(seed)

    def caption() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))

    references = {f"c{i}": [caption() for _ in range(rng.randint(1, 5))] for i in range(clips)}
    candidates = {}
    for name, texts in references.items():
        words = rng.choice(texts).split()
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        candidates[name] = rng.choice([" ".join(words), caption(), texts[0]])
    return references, candidates


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_coco_evaluation(seed: int):
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    from pycocoevalcap.cider.cider import Cider as TheirCider
    from pycocoevalcap.rouge.rouge import Rouge

    references, candidates = corpus(seed)
    given = {name: [text] for name, text in candidates.items()}
    own = CaptionScores(candidates, references)
    names = list(candidates)
    value, each = bleu.compute_score(references, given, verbose=0)
    for n in range(4):
        assert own.corpus[f"bleu_{n + 1}"] == pytest.approx(value[n], abs=1e-9)
        assert [own.by_clip[name][f"bleu_{n + 1}"] for name in names] == pytest.approx(each[n], abs=1e-9)
    for key, scorer in (("rouge_l", Rouge()), ("cider_d", TheirCider())):
        value, each = scorer.compute_score(references, given)
        assert own.corpus[key] == pytest.approx(float(value), abs=1e-9)
        assert [own.by_clip[name][key] for name in names] == pytest.approx(list(each), abs=1e-9)


def test_what_is_right_is_1_and_what_is_foreign_0():
    references = {"a": ["the cat sits on a mat"], "b": ["big dog barks at night"]}
    same = CaptionScores({name: texts[0] for name, texts in references.items()}, references)
    assert same.corpus["cider_d"] == pytest.approx(10)
    for key in ("bleu_4", "rouge_l", "word_accuracy", "exact"):
        assert same.corpus[key] == pytest.approx(1)
    other = CaptionScores(dict.fromkeys(references, "x y z v w"), references)
    for key in ("bleu_4", "rouge_l", "cider_d", "exact"):
        assert other.corpus[key] == pytest.approx(0, abs=1e-6)
    nothing = CaptionScores(dict.fromkeys(references, ""), references)
    for key in ("bleu_1", "rouge_l", "cider_d", "exact", "word_accuracy"):
        assert nothing.corpus[key] == pytest.approx(0, abs=1e-6)
    assert CaptionScores({}, {}).corpus == {}


def test_word_errors_by_hand():
    assert word_errors("a b c".split(), ["a b c d".split()]) == (1, 4)  # one left out
    assert word_errors("a x c d e".split(), ["a b c d".split()]) == (2, 4)  # one exchanged, one too many
    assert word_errors("a b".split(), ["x y z".split(), "a c".split()]) == (1, 2)  # the closest reference
    pooled = CaptionScores({"a": "a b", "b": "x"}, {"a": ["a c"], "b": ["y z v w"]})
    assert pooled.corpus["word_accuracy"] == pytest.approx(1 - (1 + 4) / 6)


def test_words_and_marks():
    assert words_of("A man's  DOG, isn't -- it? (No_2)") == ["a", "man's", "dog", "isn't", "it", "no", "2"]
    assert words_of("Ein Bär läuft; 猫が寝る") == ["ein", "bär", "läuft", "猫が寝る"]
    assert words_of(" ... ") == []


def test_cider_of_words_no_reference_has():
    cider = Cider([[["a"]], [["b"]]])
    assert cider(["z"], [["a"]]) == 0
    assert cider([], [["a"]]) == 0


def test_rouge_takes_the_best_precision_and_the_best_recall():
    # Precision 2/2 by the first reference, recall 1/1 by the second.
    assert rouge_l(["a", "b"], [["a", "x", "b", "y"], ["b"]]) == pytest.approx(1.0)


def test_bleu_counts_add_up():
    one = BleuCounts.of("a b c".split(), ["a b d".split()])
    two = BleuCounts.of("a a".split(), ["a".split(), "a b c d".split()])
    both = one + two
    assert both.matched[0] == 2 + 1 and both.total[:2] == (5, 3) and both.length == 5 and both.reference == 3 + 1


def test_meteor_of_stems():
    pytest.importorskip("nltk")
    scores = CaptionScores({"a": "dogs running", "b": "zebra"}, {"a": ["dog runs"], "b": ["x"]})
    assert scores.by_clip["a"]["meteor"] > 0.9 and scores.by_clip["b"]["meteor"] == 0
