"""Captions survive their tokens, words know their tokens, and a tokenizer survives its checkpoint."""

from __future__ import annotations

import json

import pytest

from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError

CAPTIONS = [
    "A man plays the guitar, and a dog barks!",
    "two women are talking (in a kitchen)",
    "der Bär läuft; 猫が寝る 🙂",
    "it's raining -- again",
]


def learned(kind: str, size: int = 400, **options) -> CaptionTokenizer:
    return CaptionTokenizer.learn(CAPTIONS * 3, kind, size, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [*CAPTIONS, "unseen wörds ∀x \x00 and\ttabs\nlines", "‮right to left", "-->"])
def test_pieces_spell_anything(text: str):
    tokenizer = learned("bpe", lowercase=False)
    assert tokenizer.decode(tokenizer.encode(text, 500)) == " ".join(text.split())


def test_lone_surrogates_are_replaced():
    tokenizer = learned("bpe")
    assert tokenizer.decode(tokenizer.encode("a \udcff b", 50)) == "a ? b"


def test_a_caption_is_tokenised_once_however_many_steps_learn_it():
    tokenizer, asked = learned("bpe"), []
    rules = tokenizer._rules

    class Counting:
        def encode(self, text: str, **options):
            asked.append(text)
            return rules.encode(text, **options)

    tokenizer.__dict__["_rules"] = Counting()
    first = [tokenizer.batch(CAPTIONS, length) for length in (50, 3, 50)]
    assert len(asked) == len(CAPTIONS)
    fresh = learned("bpe")
    for (tokens, keep), length in zip(first, (50, 3, 50), strict=True):
        expected = fresh.batch(CAPTIONS, length)
        assert tokens.equal(expected[0]) and keep.equal(expected[1])


def test_words():
    tokenizer = learned("word")
    ids = tokenizer.encode("A dog barks, two zebras", 50)
    assert ids[0] == tokenizer.bos and ids[-1] == tokenizer.eos
    assert tokenizer.decode(ids) == "a dog barks, two <unk>"
    assert [word.text for word in tokenizer.words(ids[1:-1])] == ["a", "dog", "barks,", "two", "<unk>"]
    assert tokenizer.words(ids[1:-1])[2].places == (2, 3)


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_the_words_of_a_caption_are_all_of_its_tokens(kind: str):
    tokenizer = learned(kind)
    for caption in CAPTIONS:
        ids = tokenizer.encode(caption, 100)[1:-1]
        words = tokenizer.words(ids)
        assert [place for word in words for place in word.places] == list(range(len(ids)))
        assert " ".join(word.text for word in words) == tokenizer.decode(ids)
        if kind == "bpe":
            assert [word.text for word in words] == caption.lower().split()
    assert tokenizer.words([]) == []


def test_frequent_words_stay():
    tokenizer = CaptionTokenizer.learn(["a b"] * 5 + ["c"], "word", 6)
    assert tokenizer.size == 6
    assert tokenizer.decode(tokenizer.encode("a b c", 9)) == "a b <unk>"


def test_a_batch_is_padded_and_cut():
    tokenizer = learned("word")
    tokens, keep = tokenizer.batch(["a dog", "two women are talking", ""], 3)
    assert tokens.shape == (3, 4) and keep.sum(dim=1).tolist() == [4, 4, 2]
    assert tokens[1, -1] != tokenizer.eos  # cut: it does not end here
    assert tokens[2].tolist() == [tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.pad]


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_from_dict_and_back(kind: str):
    own = learned(kind)
    record = json.loads(json.dumps(own.to_dict()))
    again = CaptionTokenizer.from_dict(record)
    assert again == own and again.encode(CAPTIONS[0], 99) == own.encode(CAPTIONS[0], 99)
    for change in ({"definition": "{}"}, {"definition": "x"}, {"kind": "char"}, {"eos": 10**6}):
        with pytest.raises(ValueError):
            CaptionTokenizer.from_dict(record | change)


def test_learning_twice_gives_the_same():
    assert learned("bpe") == learned("bpe")


@pytest.mark.parametrize(
    ("captions", "kind", "size", "named"),
    [
        ([], "word", 100, "captions"),
        ([" "], "bpe", 400, "captions"),
        (["a"], "char", 100, "kind"),
        (["a"], "bpe", 100, "size"),
    ],
)
def test_what_is_wrong_is_named(captions: list[str], kind: str, size: int, named: str):
    with pytest.raises(UsageError, match=named):
        CaptionTokenizer.learn(captions, kind, size)  # type: ignore[arg-type]
