"""A result is the record, typed; its HTML is inert."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hostile_records import FAILED, HOSTILE, record

from mmattn.inference.records.result import Result, Tag

LINES = [
    record("a.mp4", "a dog barks", "rain"),
    {**record("b.mp4"), "tags": [], "modality": {"used": [], "shapley": None, "attention": None}},
    {
        "path": "c.wav",
        "status": "ok",
        "tags": [
            {"tag": "x", "score": 0.5, "modality": "audio", "video": 0.0, "audio": 0.5, "synergy": 0.0}
            | {"segments": [[0.0, 1.5], [2.0, 2.48]]},
            {"tag": "y", "score": 0.4, "video": -0.1, "audio": 0.3, "synergy": 0.05, "segments": []},
        ],
        "modality": {"used": ["audio"], "shapley": None, "attention": {"audio": 0.25, "prior": 0.5}},
        "spans": [[0.0, 3.0], [1.5, 4.5]],
        "issues": ["bad_samples"],
    },
    FAILED,
    {key: value for key, value in FAILED.items() if key != "id"},
]
LINES[1].pop("captions")  # as of a model that does not caption


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["path"])
def test_it_says_what_the_record_says(line: dict):
    result = Result.from_dict(line)
    assert json.dumps(result.to_dict()) == json.dumps(line), "in the same order too"
    assert result.ok == (line["status"] == "ok")
    assert hash(result) == hash(Result.from_dict(line))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.path = "other"  # type: ignore[misc]


def test_its_parts_are_typed():
    result = Result.from_dict(LINES[2])
    assert result.tags[0] == Tag("x", 0.5, 0.0, 0.5, 0.0, "audio", ((0.0, 1.5), (2.0, 2.48)))
    assert result.modality and result.modality.attention and result.modality.attention.audio == 0.25
    assert Result.from_dict(LINES[0]).captions[0].words[0].attention == 0.5
    assert Result.from_dict(FAILED).tags == ()


def test_a_key_that_it_does_not_know_is_not_lost_in_silence():
    with pytest.raises(TypeError, match="unknown"):
        Result.from_dict({**LINES[0], "unknown": 1})


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["path"])
def test_a_notebook_shows_it(line: dict):
    page = Result.from_dict(line)._repr_html_()
    text = "".join(ET.fromstring(page).itertext())
    assert line["path"] in text
    for tag in line.get("tags", ()):
        assert tag["tag"] in text and f"{tag['score']:.2f}" in text
    if line["status"] == "failed":
        assert "failed: not_media: @x" in text


def test_a_bar_is_as_long_as_the_score_and_split_by_what_it_owes():
    line = {**LINES[0], "tags": [{"tag": "x", "score": 0.8, "video": 0.5, "audio": 0.2, "synergy": 0.0}]}
    widths = dict(re.findall(r'<span class="([van])" style="width:([\d.]+)%"', Result.from_dict(line)._repr_html_()))
    assert {name: float(width) for name, width in widths.items()} == {"v": 50.0, "a": 20.0, "n": 10.0}
    line["tags"][0].update(score=0.4, video=0.6, audio=-0.3)  # more than the score: drawn in proportion
    widths = dict(re.findall(r'<span class="([van])" style="width:([\d.]+)%"', Result.from_dict(line)._repr_html_()))
    assert {name: float(width) for name, width in widths.items()} == {"v": 40.0, "a": 0.0, "n": 0.0}


def test_words_are_shaded_by_the_sense_they_owe_most():
    line = record("a.mp4", "x")
    words = [
        {"word": "seen", "video": 2.0, "audio": -1.0, "synergy": 0.0},
        {"word": "heard", "video": 0.0, "audio": 1.0, "synergy": 0.0},
        {"word": "the", "video": 0.0, "audio": 0.0, "synergy": 0.0},
    ]
    line["captions"][0]["words"] = words
    page = Result.from_dict(line)._repr_html_()
    found = re.findall(r"rgba\(86,180,233,([\d.]+)\),rgba\(242,142,60,([\d.]+)\)\)\"[^>]*>(\w+)<", page)
    assert found == [("0.75", "0.00", "seen"), ("0.00", "0.38", "heard"), ("0.00", "0.00", "the")]


def test_hostile_text_is_inert():
    hostile = [*HOSTILE, '"><img src=x onerror=alert(1)>', "' onmouseover='x", "</style><script>"]
    tags = [{"tag": text, "score": 0.9, "video": 0.1, "audio": 0.1, "synergy": 0.0} for text in hostile]
    line = record(hostile[-1], *hostile, path=hostile[-3], tags=tags, issues=hostile)
    for caption, text in zip(line["captions"], hostile, strict=True):
        caption["words"] = [{"word": text, "video": 1.0, "audio": 0.0, "synergy": 0.0}]
    for given in (line, {**FAILED, "detail": " ".join(hostile), "path": hostile[-1]}):
        page = Result.from_dict(given)._repr_html_()
        page.encode("utf-8")
        tree = ET.fromstring(page)
        assert {node.tag for node in tree.iter()} <= {"div", "style", "p", "b", "i", "span", "mark"}
        names = {name for node in tree.iter() for name in node.attrib}
        assert names <= {"class", "style", "title", "role", "aria-label"}
        assert not re.search(r"https?:|url\(|@import", page)
        assert "\u202e" not in page, "nothing turns the page around"


def test_it_stays_small():
    tags = [{"tag": f"tag{i}", "score": 0.9, "video": 0.1, "audio": 0.1, "synergy": 0.0} for i in range(1000)]
    page = Result.from_dict(record("a", *["a dog"] * 1000, tags=tags))._repr_html_()
    assert len(page) < 50_000 and "980 more tags" in page and "950 more captions" in page
