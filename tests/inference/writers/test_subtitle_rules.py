"""Subtitles that can be published: rules checked by code of this test alone, on drawn transcripts of every temper."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysubs2
import pytest
import webvtt
from hostile_records import HOSTILE, record

from mmattn.inference.writers.formats.srt import SubRip
from mmattn.inference.writers.formats.vtt import WebVTT
from mmattn.inference.writers.interface import Cue
from mmattn.inference.writers.subtitles.cues import cues_of
from mmattn.inference.writers.subtitles.tracks import Tracks

PROSE = (
    "It was a bright cold day in April, and the clocks were striking thirteen. He slipped quickly through the glass "
    "doors, though not quickly enough to prevent a swirl of gritty dust from entering along with him. The hallway "
    "smelt of boiled cabbage and old rag mats. At one end of it a coloured poster, too large for indoor display, had "
    "been tacked to the wall. It depicted simply an enormous face: the face of a man of about forty-five. Why not? "
    "He made for the stairs; it was no use trying the lift. Even at the best of times it was seldom working."
).split()


def spoken(draw: random.Random, count: int, rate: float, blank: str = " ", start: float = 0.0) -> list[dict[str, Any]]:
    """Utterances of `count` words of prose, at `rate` characters a second without the pauses."""
    words, time = [], start
    first = draw.randrange(len(PROSE))
    for k in range(count):
        word = PROSE[(first + k) % len(PROSE)]
        long = (len(word) + 1) / rate
        words.append({"start": round(time, 3), "end": round(time + 0.9 * long, 3), "word": blank + word})
        time += long + (draw.choice((0.3, 0.6, 3.0)) if word[-1] in ".?" else 0.15 if word[-1] in ",;:" else 0)
    utterances, at = [], 0
    while at < len(words):
        part = words[at : at + draw.randint(1, 25)]
        at += len(part)
        text = " ".join(word["word"].strip() for word in part)
        utterances.append({"start": part[0]["start"], "end": part[-1]["end"], "text": text, "words": part})
    return utterances


def mad(draw: random.Random) -> list[dict[str, Any]]:
    """What no recogniser should give: words that run back, last an hour or no time, of 200 letters, of one."""
    found = []
    for _ in range(draw.randint(0, 6)):
        words = []
        for _ in range(draw.randint(0, 12)):
            start = draw.choice((draw.uniform(-1, 30), 5.0))
            end = start + draw.choice((-1, 0, 0.01, 0.4, 9, 3600))
            letters = draw.choice(("a", "no,", "x" * 200, "don", "'t", "\u4f60\u597d\u3002", "\n", "a b c.", *HOSTILE))
            words.append({"start": start, "end": end, "word": draw.choice(("", " ")) + letters})
        text = "".join(word["word"] for word in words) or draw.choice(("", "\u72d7\u53eb" * 60, "said without times"))
        start = draw.uniform(0, 20)
        given = {"words": words} if draw.random() < 0.7 else {}
        found.append({"start": start, "end": start + draw.uniform(0, 9), "text": text, **given})
    return found


def barks(*segments: tuple[float, float], tag: str = "Bark", modality: str = "audio") -> dict[str, Any]:
    return {"tag": tag, "score": 0.9, "modality": modality, "segments": [list(each) for each in segments]}


def check_rules(cues: list[Cue]) -> None:
    for cue in cues:
        lines = cue.text.split("\n")
        assert 1 <= len(lines) <= 2 and all(0 < len(line) <= 42 and line == line.strip() for line in lines), lines
        assert 1000 <= cue.end - cue.start <= 7000, cue
    for before, after in pairwise(cues):
        assert before.end <= after.start


def letters(texts: list[str]) -> str:
    return "".join(c for text in texts for c in text if c.isalnum())


def said(cues: list[Cue]) -> list[Cue]:
    return [cue for cue in cues if not (cue.text[0] == "[" and cue.text[-1] == "]")]


@pytest.mark.parametrize("seed", range(60))
def test_subtitles_of_speech_keep_every_rule(seed: int) -> None:
    """At up to 17 characters a second all can be read in time; no word is lost, cut, early or late."""
    draw = random.Random(seed)
    transcript = spoken(draw, draw.randint(1, 120), draw.uniform(7, 17), draw.choice(("", " ")))
    cues = cues_of({"transcript": transcript})
    check_rules(cues)
    words = [word for utterance in transcript for word in utterance["words"]]
    assert [word for cue in cues for word in cue.text.split()] == [word["word"].strip() for word in words]
    at = 0
    for cue in cues:
        assert len(cue.text) <= 20 * (cue.end - cue.start) / 1000, cue
        count = len(cue.text.split())
        assert -1 <= cue.start - 1000 * words[at]["start"] <= 900, "shown when it begins to be said"
        assert cue.end >= min(1000 * words[at + count - 1]["end"] - 1, cue.start + 7000), "and until it is said"
        pauses = [two["start"] - one["end"] for one, two in pairwise(words[at : at + count])]
        assert max(pauses, default=0) < 2, "nothing is reported before a pause"
        at += count


@pytest.mark.parametrize("seed", range(40))
def test_speech_too_fast_to_read_is_shown_for_all_the_time_there_is(seed: int) -> None:
    draw = random.Random(seed)
    cues = cues_of({"transcript": spoken(draw, draw.randint(2, 120), draw.uniform(20, 45))})
    check_rules(cues)
    for cue, after in pairwise(cues):
        assert len(cue.text) <= 20 * (cue.end - cue.start) / 1000 + 1e-9 or cue.end == after.start


@pytest.mark.parametrize("seed", range(300))
def test_no_transcript_breaks_a_rule(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    transcript = mad(draw)
    names = ("Bark", "Rain", "Animal", "<i>, x", *HOSTILE)
    tags = [
        barks((start, start + draw.choice((0, 0.3, 4, 90))), tag=draw.choice(names))
        for start in (draw.uniform(-1, 40) for _ in range(draw.randint(0, 6)))
    ]
    cues = cues_of({"transcript": transcript, "tags": tags})
    check_rules(cues)
    told = [[w["word"] for w in each["words"]] if each.get("words") else [each["text"]] for each in transcript]
    in_order = sorted(zip(transcript, told, strict=True), key=lambda pair: (pair[0]["start"], pair[0]["end"]))
    if not any("lone" in word for _, words in in_order for word in words):
        plain = [word if word.strip() else "" for _, words in in_order for word in words]
        assert letters([cue.text for cue in said(cues)]) == letters(plain), "no word is lost"
    (tmp_path / "a.srt").write_text(SubRip().track(cues), encoding="utf-8")
    (tmp_path / "a.vtt").write_text(WebVTT().track(cues), encoding="utf-8")
    read = pysubs2.load(str(tmp_path / "a.srt"), format_="srt")
    assert [(line.start, line.end) for line in read] == [(cue.start, cue.end) for cue in cues]
    if cues:
        assert len(webvtt.read(tmp_path / "a.vtt")) == len(cues)


def test_libraries_read_two_lines_and_the_kind(tmp_path: Path) -> None:
    line = record("a.mp4", "a person talks", transcript=spoken(random.Random(1), 60, 14))
    cues = cues_of(line)
    assert any("\n" in cue.text for cue in cues)
    (tmp_path / "a.srt").write_text(SubRip().track(cues), encoding="utf-8")
    (tmp_path / "a.vtt").write_text(WebVTT().track(cues), encoding="utf-8")
    assert [each.text for each in webvtt.read(tmp_path / "a.vtt")] == [cue.text for cue in cues]
    shown = [line.plaintext for line in pysubs2.load(str(tmp_path / "a.srt"))]
    assert shown == [cue.text for cue in cues] == [line.plaintext for line in pysubs2.load(str(tmp_path / "a.vtt"))]
    (tmp_path / "d.vtt").write_text(WebVTT().track(cues_of(line, "descriptions"), "descriptions"), encoding="utf-8")
    assert [each.text for each in webvtt.read(tmp_path / "d.vtt")] == ["a person talks"]
    assert (tmp_path / "d.vtt").read_text().startswith("WEBVTT\nKind: descriptions\n\n00:00:00.000 -->")


def test_cues_and_lines_end_with_sentences_and_clauses() -> None:
    """Of prose most do; drawn places would be right for one word in six."""
    cues = cues_of({"transcript": spoken(random.Random(0), 500, 14)})
    assert sum(cue.text[-1] in ".?,;:" for cue in cues) / len(cues) > 0.7
    first = [cue.text.split("\n")[0].split()[-1] for cue in cues if "\n" in cue.text]
    assert not {"a", "the", "of", "to"} & set(first), "no line ends with an article or preposition"
    assert all(len(cue.text) > 12 or cue.text[-1] in ".?,;:" for cue in cues), "no word is left alone"


def test_words_and_what_clings_to_them_stay_together() -> None:
    parts = [" I", " don", "'t", " know", ",", " Dr", ".", " Who", "?"]
    words = [{"start": 0.3 * k, "end": 0.3 * k + 0.3, "word": part} for k, part in enumerate(parts)]
    (cue,) = cues_of({"transcript": [{"start": 0, "end": 3, "text": "".join(parts), "words": words}]})
    assert cue.text == "I don't know, Dr. Who?"
    chinese = "\u6211\u5bb6\u7684\u72d7\uff0c\u53eb\u4e86\u4e00\u591c\u3002" * 12
    cues = cues_of({"transcript": [{"start": 0, "end": 40, "text": chinese}]})
    check_rules(cues)
    lines = [line for cue in cues for line in cue.text.split("\n")]
    assert "".join(lines) == chinese and max(map(len, lines)) <= 21, "a wide character counts two"
    assert not any(line[0] in "\uff0c\u3002" for line in lines)


def test_sounds_that_matter_stand_between_the_words() -> None:
    transcript = spoken(random.Random(0), 12, 14, start=3.0)
    ends = transcript[-1]["end"]
    tags = [
        barks((0.5, 1.9), (ends + 2, ends + 2.4)),
        barks((0.5, 1.9), tag="Animal"),
        barks((0.0, 99.0), tag="Speech"),
        barks((ends + 2.1, ends + 60), tag="Rain on surface"),
        barks((ends + 10, ends + 12), tag="Applause"),
        barks((3.2, 3.9), tag="Doorbell"),
        barks((0.0, 99.0), tag="tabby, tabby cat", modality="video"),
        {"tag": "Siren", "score": 0.9, "modality": "audio"},
    ]
    cues = cues_of({"transcript": transcript, "tags": tags})
    check_rules(cues)
    sounds = [(cue.start / 1000, cue.text) for cue in cues if cue.text.startswith("[")]
    assert sounds == [
        (0.5, "[dog barking]"),
        (pytest.approx(ends + 2, abs=0.01), "[dog barking]\n[rain]"),
        (pytest.approx(ends + 10, abs=0.01), "[applause]"),
    ]
    assert said(cues) == cues_of({"transcript": transcript}), "and change nothing of them"
    alone = cues_of({"transcript": [], "tags": tags})
    assert [cue.text for cue in alone][:2] == ["[dog barking]", "[bell ringing]"]


def test_a_sound_is_not_named_when_the_file_ends_with_the_speech() -> None:
    transcript = spoken(random.Random(0), 12, 14, start=3.0)
    last = cues_of({"transcript": transcript})[-1].end / 1000
    heard = barks((last - 1.0, last + 0.3))

    def cues(end: float) -> list[str]:
        return [cue.text for cue in cues_of({"transcript": transcript, "tags": [heard], "spans": [[0.0, end]]})]

    assert "[dog barking]" in cues(last + 1.1)
    assert "[dog barking]" not in cues(last + 0.3)
    short = {"transcript": [], "tags": [barks((0.0, 0.4))], "spans": [[0.0, 0.4]]}
    assert [cue.text for cue in cues_of(short)] == ["[dog barking]"], "a sound at its own time is always named"


@pytest.mark.parametrize("seed", range(100))
def test_a_sound_is_named_only_while_it_is_heard(seed: int) -> None:
    draw = random.Random(seed)
    transcript = spoken(draw, 60, 14)
    tags = [
        barks((start, start + draw.uniform(0.3, 8)), tag=tag)
        for tag in ("Bark", "Rain", "Applause", "Siren")
        for start in (draw.uniform(0, 40) for _ in range(3))
    ]
    cues = cues_of({"transcript": transcript, "tags": tags})
    check_rules(cues)
    names = {"[dog barking]": "Bark", "[rain]": "Rain", "[applause]": "Applause", "[siren]": "Siren"}
    for cue in cues:
        for line in cue.text.split("\n") if cue.text.startswith("[") else ():
            spans = [span for tag in tags if tag["tag"] == names[line] for span in tag["segments"]]
            heard = [(low, high + 5.0 * any(high < other < high + 5 for other, _ in spans)) for low, high in spans]
            assert any(low - 0.501 <= cue.start / 1000 <= high + 0.501 for low, high in heard), "a pause of 5 s is none"


def test_captions_beside_a_transcript_are_a_track_of_their_own(tmp_path: Path) -> None:
    talk = record("a.mp4", "a person talks", "rain", transcript=spoken(random.Random(0), 20, 14))
    silent = record("b.mp4", "a train", transcript=[])
    plain = record("c.mp4", "a dog")
    clash = record("a.descriptions.mp4", "x", transcript=spoken(random.Random(1), 20, 14))
    tracks, ledger = Tracks(WebVTT(), tmp_path / "out", False), tmp_path / "ledger"
    for _ in range(2):
        records = [talk, silent, plain, clash]
        assert tracks.write(records, ledger) == Counter(written=3, nothing=1)
        assert tracks.write(records, ledger, "descriptions") == Counter(written=3, nothing=1)
        names = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
        assert len(names) == 6 and {"a.vtt", "b.descriptions.vtt", "c.vtt"} < set(names)
        described = [name for name, text in names.items() if "Kind: descriptions" in text]
        assert len(described) == 3 and "a dog" in names["c.vtt"] and "a train" in names["b.descriptions.vtt"]
        assert sum("a person talks" in text for text in names.values()) == 1, "no track is written over another"
    tracks.write([plain], ledger)
    tracks.write([plain], ledger, "descriptions")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.vtt"]


@pytest.mark.parametrize(
    "character", ["e\u0301", "\u0e17\u0e35\u0e48", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd"]
)
def test_no_character_is_cut_in_two(character: str) -> None:
    """A word of 60 accented letters, Thai syllables or joined emoji; an odd letter in front moves the cuts."""
    for front in ("", "x"):
        word = front + character * 60
        said = [{"start": 0.0, "end": 60.0, "text": word, "words": [{"start": 0.0, "end": 60.0, "word": word}]}]
        lines = "\n".join(cue.text for cue in cues_of(record("a", transcript=said))).split("\n")
        assert "".join(lines) == word and len(lines) > 1 and all(len(line) <= 42 for line in lines)
        assert all(line.removeprefix(front).replace(character, "") == "" for line in lines), lines
