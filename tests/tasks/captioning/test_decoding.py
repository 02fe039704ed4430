"""Searches find what a slow search without cache finds, keep their rules, and treat each clip by itself."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from search_reference import Slow, tokens_of

from caption_models import fused_clips, one_clip, small_captioner
from mmattn.errors import UsageError
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.search import Search, State

METHODS = {
    "greedy": Decoding("greedy", max_length=10, length_penalty=0),
    "beam": Decoding("beam", beams=3, max_length=10),
    "sample": Decoding("sample", top_p=0.8, temperature=1.3, max_length=10),
}
RULED = {
    "no repeat": {"no_repeat_ngram": 2},
    "min length": {"min_length": 6},
    "short": {"max_length": 3},
    "decay": {"length_decay": 2, "decay_factor": 3.0},
    "all": {"no_repeat_ngram": 1, "min_length": 4, "length_decay": 5, "max_length": 8},
}


@pytest.mark.parametrize("rules", [{}, *RULED.values()], ids=["free", *RULED])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_the_cached_search_finds_what_the_slow_one_finds(method: str, seed: int, rules: dict):
    model, fused = small_captioner(seed), fused_clips(seed=seed)
    decoding = replace(METHODS[method], **rules)
    decoded = model.generate(fused, decoding)
    for i, found in enumerate(tokens_of(decoded)):
        slow = Slow(model, one_clip(fused, i), decoding)
        if method == "greedy":
            assert found == slow.greedy()
        else:
            said, score = slow.beam()
            assert found == said and float(decoded.score[i]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.5])
def test_beams_of_every_length_penalty(penalty: float):
    model, fused = small_captioner(4), fused_clips(seed=4)
    decoding = replace(METHODS["beam"], length_penalty=penalty)
    decoded = model.generate(fused, decoding)
    assert tokens_of(decoded) == [Slow(model, one_clip(fused, i), decoding).beam()[0] for i in range(5)]


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_alone_gets_the_caption_it_gets_among_others(method: str):
    model, fused = small_captioner(1), fused_clips(seed=1)
    ids = [f"clip{i}" for i in range(5)]
    together = model.generate(fused, METHODS[method], ids)
    for i in range(5):
        alone = model.generate(one_clip(fused, i), METHODS[method], [ids[i]])
        assert tokens_of(alone) == [tokens_of(together)[i]]
        assert float(alone.score) == pytest.approx(float(together.score[i]), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_score_is_what_the_decoder_says_of_the_caption(method: str):
    model, fused = small_captioner(2), fused_clips(seed=2)
    decoded = model.generate(fused, METHODS[method])
    found, _ = model.log_probs(fused, decoded)
    length = decoded.keep.sum(dim=1) ** METHODS[method].length_penalty
    torch.testing.assert_close(decoded.score, found.sum(dim=1) / length, atol=1e-5, rtol=1e-5)


def test_a_wide_beam_finds_the_likeliest_caption_of_all():
    class Chain(State):
        """Five tokens; each step's probabilities depend on the token before."""

        def __init__(self) -> None:
            self.table = torch.randn(5, 5, generator=torch.Generator().manual_seed(3)) * 2

        def step(self, tokens):
            return self.table[tokens]

        def expand(self, beams): ...
        def reorder(self, rows): ...
        def keep(self, clips): ...

    decoding = Decoding("beam", beams=64, max_length=4, length_penalty=0)
    decoded = Search(decoding, bos=0, eos=1, pad=0)(Chain(), 1, torch.device("cpu"))
    table = torch.log_softmax(Chain().table, dim=1)
    best = -math.inf
    for length in range(1, 5):
        for words in itertools.product((2, 3, 4), repeat=length if length == 4 else length - 1):
            said = [0, *words, *([] if length == 4 and len(words) == 4 else [1])]
            best = max(best, sum(float(table[a, b]) for a, b in itertools.pairwise(said)))
    assert float(decoded.score[0]) == pytest.approx(best, abs=1e-5)


def test_the_rules_hold():
    model, fused = small_captioner(5), fused_clips(seed=5)
    eos = model.tokenizer.eos
    for method, decoding in METHODS.items():
        for said in tokens_of(model.generate(fused, replace(decoding, min_length=5, no_repeat_ngram=2))):
            assert len(said) >= 5, method
            assert eos not in said[:4] and (len(said) == 10 or said[-1] == eos)
            pairs = list(itertools.pairwise(said))
            assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("method", METHODS)
def test_a_caption_that_no_token_may_follow_ends(method: str):
    class Same(State):
        """Three words and the marks, one as likely as another."""

        def step(self, tokens):
            return torch.zeros(len(tokens), 5)

        def expand(self, beams): ...
        def reorder(self, rows): ...
        def keep(self, clips): ...

    decoding = Decoding(method, beams=2, no_repeat_ngram=1, min_length=8, max_length=9)
    decoded = Search(decoding, bos=0, eos=1, pad=0)(Same(), 2, torch.device("cpu"))
    for said in tokens_of(decoded):
        assert sorted(said[:3]) == [2, 3, 4] and said[3:] == [1]
    torch.testing.assert_close(decoded.score, torch.full((2,), -math.log(5.0)))


def test_samples_follow_the_probabilities_of_the_nucleus():
    probability = torch.tensor([0.0, 0.05, 0.4, 0.3, 0.2, 0.05])

    class Still(State):
        def step(self, tokens):
            return probability.log().expand(len(tokens), -1)

        def expand(self, beams): ...
        def reorder(self, rows): ...
        def keep(self, clips): ...

    decoding = Decoding("sample", top_p=0.85, max_length=1)
    decoded = Search(decoding, bos=0, eos=1, pad=0)(Still(), 20_000, torch.device("cpu"))
    share = torch.bincount(decoded.tokens[:, 0], minlength=6) / 20_000
    torch.testing.assert_close(share, torch.tensor([0, 0, 0.4, 0.3, 0.2, 0]) / 0.9, atol=0.015, rtol=0)
    again = Search(decoding, bos=0, eos=1, pad=0)(Still(), 20_000, torch.device("cpu"))
    assert torch.equal(decoded.tokens, again.tokens)
    other = Search(replace(decoding, seed=1), bos=0, eos=1, pad=0)(Still(), 20_000, torch.device("cpu"))
    assert not torch.equal(decoded.tokens, other.tokens)


@pytest.mark.parametrize(
    "wrong",
    [{"method": "best"}, {"beams": 0}, {"min_length": 9, "max_length": 3}, {"top_p": 0.0}, {"temperature": 0.0}],
    ids=str,
)
def test_wrong_settings_are_named(wrong: dict):
    with pytest.raises(UsageError, match=f"decoding.*{next(iter(wrong))}"):
        Decoding(**wrong)


def test_a_caption_longer_than_the_decoder_is_refused():
    with pytest.raises(UsageError, match=r"captions\.max_length=12"):
        small_captioner().check_length(Decoding(max_length=14))
