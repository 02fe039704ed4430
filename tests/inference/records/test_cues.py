"""What is said of a time was seen and heard then, and no two captions are shown at once."""

import random
from itertools import pairwise

import pytest

from mmattn.inference.records.caption_timeline import CaptionTimeline
from mmattn.inference.writers.subtitles.cues import cues_of
from mmattn.weighting.captions import WeighedCaption


def caption(text: str, score: float = 0.0) -> WeighedCaption:
    return WeighedCaption(text, score, ())


def said(*spans: tuple[float, float, str]) -> list[tuple[float, float, str]]:
    captions = CaptionTimeline()
    for start, end, text in spans:
        captions.add(start, end, caption(text))
    return [(each["start"], each["end"], each["text"]) for each in captions.records()]


def test_spans_that_leave_something_out_stay_apart():
    spans = [(start, start + 3.0, "a dog") for start in (0.0, 1000.0, 2000.0, 7197.0)]
    assert said(*spans) == spans


def test_spans_that_touch_and_say_the_same_are_one():
    assert said((0, 3, "a"), (3, 6, "a"), (5.5, 8.5, "a"), (9, 12, "a")) == [(0, 8.5, "a"), (9, 12, "a")]


def test_spans_that_overlap_share_what_both_have():
    assert said((0, 3, "a"), (2, 5, "b")) == [(0, 2.5, "a"), (2.5, 5, "b")]


@pytest.mark.parametrize("seed", range(200))
def test_captions_of_random_spans_neither_overlap_nor_claim_what_was_not_seen(seed: int):
    draw = random.Random(seed)
    seconds = draw.uniform(0.5, 4)
    starts = sorted(draw.uniform(0, 20) for _ in range(draw.randint(1, 12)))
    spans = [(start, start + seconds, draw.choice("ab")) for start in starts]
    found = said(*spans)
    for before, after in pairwise(found):
        assert before[0] <= before[1] <= after[0]
    for k in range(500):
        time = 25 * (k + 0.5) / 500
        texts = [text for start, end, text in found if start + 2e-3 < time < end - 2e-3]
        assert all(any(low <= time < high and text == told for low, high, text in spans) for told in texts)
    looked = sum(high - low for low, high in _union([(low, high) for low, high, _ in spans]))
    assert sum(end - start for start, end, _ in found) == pytest.approx(looked, abs=0.002 * len(spans))


@pytest.mark.parametrize("seed", range(200))
def test_cues_of_any_record_do_not_overlap(seed: int):
    draw = random.Random(seed)
    captions = [
        {"start": (start := draw.uniform(-1, 9)), "end": start + draw.choice([0, 1e-4, 0.5, 3, 9]), "text": str(k)}
        for k in range(draw.randint(1, 9))
    ]
    cues = cues_of({"captions": captions})
    assert cues and all(cue.start < cue.end for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))


def _union(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for low, high in spans:
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found
