"""What words owe to sound and to picture, on decoders whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.interface import Captioner, Read
from mmattn.tasks.captioning.search import State
from mmattn.types import Batch, Fused, Tokens
from mmattn.weighting.captions import CaptionEvaluation, captions_with_weights, word_split
from mmattn.weighting.causal import SUBSETS, Subset

CAPTIONS = ["red beep now", "blue beep now", "red buzz now", "blue buzz now"]
TOKENIZER = CaptionTokenizer.learn(CAPTIONS, "word", 20)


class Knows(Captioner):
    """Says a colour by the picture alone, a sound by the sound alone, and a third word that it always knows."""

    def __init__(self) -> None:
        super().__init__(TOKENIZER, 5, 0.0, Decoding("greedy", max_length=6))
        self.unused = nn.Parameter(torch.zeros(1))

    def start(self, fused: Fused) -> State:
        return _Said(self, fused)

    def read(self, fused: Fused, tokens: Tensor, *, mass: bool = False) -> Read:
        places = [self._logits(fused, min(i, 3)) for i in range(tokens.shape[1])]
        shares = {"video": torch.tensor([1.0, 0, 0.5, 0.5]), "audio": torch.tensor([0.0, 1, 0.5, 0.5])}
        count = len(fused.video.keep), tokens.shape[1]
        told = {name: share[: count[1]].expand(count) for name, share in shares.items()}
        return Read(torch.stack(places, dim=1), told if mass else None)  # type: ignore[arg-type]

    def _logits(self, fused: Fused, place: int) -> Tensor:
        names = [("red", "blue"), ("beep", "buzz"), ("now", "now"), ("<eos>", "<eos>")][place]
        first, second = (self.tokenizer._rules.token_to_id(name) for name in names)
        logits = torch.full((len(fused.video.keep), self.tokenizer.size), -20.0)
        stream = fused.video if place == 0 else fused.audio
        sign = stream.values[:, 0, 0] * stream.keep[:, 0] if place < 2 else torch.zeros(len(logits))
        logits[:, first], logits[:, second] = 3.0 * sign, -3.0 * sign
        return logits


class _Said(State):
    def __init__(self, model: Knows, fused: Fused) -> None:
        self.model, self.fused, self.place = model, fused, 0

    def step(self, tokens: Tensor) -> Tensor:
        self.place += 1
        return self.model._logits(self.fused, self.place - 1)

    def expand(self, beams: int) -> None: ...
    def reorder(self, rows: Tensor) -> None: ...
    def keep(self, clips: Tensor) -> None: ...


def stream(signs: list[float], present: bool = True) -> Tokens:
    values = torch.tensor(signs)[:, None, None]
    return Tokens(values, torch.full((len(signs), 1), present), torch.zeros(len(signs), 1))


def fusions(seen: list[float], heard: list[float]) -> dict[Subset, Fused]:
    nothing = Fused(stream([0.0], False), stream([0.0], False))
    return {
        "none": nothing,
        "video": Fused(stream(seen), stream(heard, False)),
        "audio": Fused(stream(seen, False), stream(heard)),
        "both": Fused(stream(seen), stream(heard)),
    }


SEEN, HEARD = [1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]


def test_each_word_owes_to_the_sense_that_it_was_said_by():
    captions = captions_with_weights(Knows(), fusions(SEEN, HEARD))
    assert [caption.text for caption in captions] == CAPTIONS
    gained = float(torch.tensor(3.0).sigmoid().mul(1)) and float(-torch.nn.functional.softplus(torch.tensor(-6.0)))
    gained -= -float(torch.tensor(2.0).log())  # log p = log sigmoid(6), where neither sense gives 1/2
    for caption in captions:
        colour, sound, last = caption.words
        assert colour.video == pytest.approx(gained, abs=1e-4) and colour.audio == 0 and colour.synergy == 0
        assert sound.audio == pytest.approx(gained, abs=1e-4) and sound.video == 0 and sound.synergy == 0
        assert last.video == last.audio == last.synergy == 0
        assert (colour.mass, sound.mass, last.mass) == (0.0, 1.0, 0.5)
        assert colour.to_dict()["attention"] == 0.0


def test_the_split_of_a_word_is_what_both_senses_gain():
    model = Knows()
    given = fusions(SEEN, HEARD)
    decoded = model.generate(given["both"])
    split, _ = word_split(model, given, decoded)
    both, _ = model.log_probs(given["both"], decoded)
    none, _ = model.log_probs(Fused(stream(SEEN, False), stream(HEARD, False)), decoded)
    torch.testing.assert_close(split.video + split.audio, both - none)


def batch(ids: list[str], captions: list[tuple[str, ...]], real: list[bool]) -> Batch:
    clips, nothing = len(ids), torch.zeros(len(ids), 0)
    return Batch(
        torch.zeros(clips, 0, 3, 4, 4, dtype=torch.uint8), nothing.bool(), nothing, torch.zeros(clips, 0, 8),
        nothing.bool(), nothing, tuple(ids), captions=tuple(captions), real=torch.tensor(real),
    )  # fmt: skip


def test_an_evaluation_tells_what_captions_are_worth_without_a_sense():
    evaluation, parts = CaptionEvaluation(), [CaptionEvaluation(), CaptionEvaluation()]
    references = [(text,) for text in CAPTIONS]
    whole = batch(["a", "b", "c", "d"], references, [True] * 4)
    evaluation.update(Knows(), fusions(SEEN, HEARD), whole)
    for i, part in enumerate(parts):
        half = slice(2 * i, 2 * i + 2)
        one = replace(whole, ids=whole.ids[half], captions=whole.captions[half], real=whole.real[half])
        part.update(Knows(), fusions(SEEN[half], HEARD[half]), one)
    record = evaluation.result(200)
    assert record is not None and record["clips"] == 4
    assert record["metrics"]["word_accuracy"] == 1 and record["metrics"]["exact"] == 1
    split = record["shapley"]["word_accuracy"]
    # One word of three is known anyway, one by each sense; without it, a guess is right half of the time here.
    assert split["value"]["both"] == 1 and split["value"]["none"] == pytest.approx(2 / 3)
    assert split["video"] == pytest.approx(1 / 6) and split["audio"] == pytest.approx(1 / 6)
    assert split["video"] + split["audio"] == pytest.approx(split["value"]["both"] - split["value"]["none"])
    assert split["interval"]["video"][0] <= split["video"] <= split["interval"]["video"][1]
    assert record["words"]["count"] == 12 and record["words"]["video"] == pytest.approx(record["words"]["audio"])
    merged = CaptionEvaluation()
    merged.merge(parts)
    assert merged.result(200) == record
    assert set(merged.clips()) == {"a", "b", "c", "d"}
    assert merged.clips()["b"]["alone"] == {"video": "blue beep now", "audio": "blue beep now"}  # of equals the first


def test_what_is_not_real_or_has_no_caption_stays_out():
    evaluation = CaptionEvaluation()
    evaluation.update(Knows(), fusions(SEEN[:2], HEARD[:2]), batch(["a", "b"], [("x",), ()], [False, True]))
    assert evaluation.result() is None and evaluation.clips() == {}


def test_all_subsets_are_asked_for():
    assert set(fusions(SEEN, HEARD)) == set(SUBSETS)
