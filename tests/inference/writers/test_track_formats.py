"""WebVTT and SubRip hold every text and nothing else, as the libraries that people use read them."""

from __future__ import annotations

import html
import random
from pathlib import Path

import pysubs2
import webvtt
from hostile_records import CHANGED, HOSTILE, plain, record

from mmattn.inference.writers.formats.srt import SubRip
from mmattn.inference.writers.formats.vtt import WebVTT
from mmattn.inference.writers.subtitles.cues import cues_of


def test_webvtt_holds_every_text_and_nothing_else(tmp_path: Path):
    cues = cues_of(record("a.mp4", *HOSTILE))
    path = tmp_path / "a.vtt"
    path.write_text(WebVTT().track(cues), encoding="utf-8")
    read = webvtt.read(path)
    assert len(read.captions) == len(cues) == len(HOSTILE) - 1, "a cue a text, but for the blank one"
    shown = [text for text in HOSTILE if text.strip()]
    for cue, caption, text in zip(cues, read, shown, strict=True):
        assert (round(1000 * caption.start_in_seconds), round(1000 * caption.end_in_seconds)) in (
            (cue.start, cue.end),
            (cue.start // 1000 * 1000, cue.end // 1000 * 1000),  # a property of webvtt-py: whole seconds
        )
        assert "\n" not in caption.raw_text and "<" not in caption.raw_text and "-->" not in caption.raw_text
        if "lone" not in text:
            assert plain(html.unescape(caption.raw_text)) == plain(text)
    assert read.styles == []


def test_subrip_holds_every_text_and_nothing_else(tmp_path: Path):
    cues = cues_of(record("a.mp4", *HOSTILE))
    path = tmp_path / "a.srt"
    path.write_text(SubRip().track(cues), encoding="utf-8")
    shown = [text for text in HOSTILE if text.strip()]
    for read in (pysubs2.load(str(path)), pysubs2.load(str(path), keep_html_tags=True)):
        assert [(line.start, line.end) for line in read] == [(cue.start, cue.end) for cue in cues]
        for line, text in zip(read, shown, strict=True):
            assert "\\" not in line.text and "{" not in line.text, "nothing is markup"
            if "lone" not in text:
                assert plain(line.text.translate(CHANGED)) == plain(text)
    assert [caption.start for caption in webvtt.from_srt(path)] == [
        f"00:00:{2 * i:02d}.000" for i, text in enumerate(HOSTILE) if text.strip()
    ]


def test_random_texts_make_valid_tracks(tmp_path: Path):
    rng = random.Random(0)
    pieces = [
        "-->",
        "\n",
        "\r\n",
        "<",
        ">",
        "&",
        "1",
        "00:00:01,000",
        "00:00:01.000",
        " ",
        "{",
        "\\",
        "a",
        "\x00",
        "\u202e",
    ]
    for _ in range(150):
        texts = ["".join(rng.choices(pieces, k=rng.randrange(1, 9))) for _ in range(4)]
        cues = cues_of(record("a", *texts))
        (tmp_path / "a.srt").write_text(SubRip().track(cues), encoding="utf-8")
        (tmp_path / "a.vtt").write_text(WebVTT().track(cues), encoding="utf-8")
        times = [(cue.start, cue.end) for cue in cues]
        assert [(line.start, line.end) for line in pysubs2.load(str(tmp_path / "a.srt"), format_="srt")] == times, texts
        if cues:
            assert len(webvtt.read(tmp_path / "a.vtt")) == len(cues), texts


def test_cues_are_in_order_last_and_clocks_go_beyond_an_hour():
    late = {"start": 3723.4567, "end": 3723.4568, "text": "late", "score": 0, "words": []}
    early = {"start": -0.2, "end": 3700.0, "text": "early", "score": 0, "words": []}
    last = {"start": 360000.0, "end": 360001.0, "text": "last", "score": 0, "words": []}
    track = WebVTT().track(cues_of(record("a") | {"captions": [last, late, early]}))
    assert track.startswith("WEBVTT\n\n00:00:00.000 --> 01:01:40.000\nearly\n\n01:02:03.457 --> 01:02:03.458\nlate\n")
    assert track.endswith("\n100:00:00.000 --> 100:00:01.000\nlast\n")
    assert SubRip().track(cues_of(record("a") | {"captions": [late]})) == "1\n01:02:03,457 --> 01:02:03,458\nlate\n\n"


def test_a_file_without_captions_shows_its_tags_while_they_last():
    tags = [
        {"tag": "Speech", "score": 0.9, "segments": [[0.0, 2.0], [2.0, 4.0], [8.0, 9.0]]},
        {"tag": "Dog", "score": 0.8, "segments": [[1.0, 3.0]]},
        {"tag": "whole", "score": 0.7},
    ]
    cues = [(cue.start, cue.end, cue.text) for cue in cues_of({"tags": tags})]
    assert cues == [
        (0, 1000, "Speech"),
        (1000, 3000, "Speech \u00b7 Dog"),
        (3000, 4000, "Speech"),
        (8000, 9000, "Speech"),
    ]
    assert [cue.text for cue in cues_of(record("a", "said", tags=tags))] == ["said"]
