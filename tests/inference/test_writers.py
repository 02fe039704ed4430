"""Every format is valid whatever a caption, a tag or a name holds; read back by the libraries that people use."""

from __future__ import annotations

import csv
import html
import json
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pysubs2
import pytest
import webvtt
from pyarrow import parquet

from mmattn.config.compose import build, compose, group_choices, read_choice
from mmattn.errors import MmattnError, UsageError
from mmattn.inference.writers.formats.srt import SubRip
from mmattn.inference.writers.formats.vtt import WebVTT
from mmattn.inference.writers.interface import FileFormat, FolderFormat, TrackFormat
from mmattn.inference.writers.output import Output, output_of
from mmattn.inference.writers.places import fitting, places
from mmattn.inference.writers.subtitles.cues import cues_of
from mmattn.inference.writers.subtitles.tracks import Tracks

HOSTILE = [
    "00:00:01.000 --> 00:00:09.000",
    "00:00:01,000 00:00:09,000",
    "a --> b\n\nNOTE x\n\n00:00:05.000 --> 00:00:06.000\nforged",
    "<script>alert(1)</script> & <b>bold</b> &lt;",
    "{\\an8}up \\N down {\\pos(1,1)}",
    "12",
    "WEBVTT",
    "STYLE ::cue { color: red }",
    "\u05e9\u05dc\u05d5\u05dd \u200f\u202eeman\u202c \u2067x\u2069",
    "\U0001f415\u200d\U0001f9ba emoji \u2028 and \u2029 separators \x85",
    "bell \x07 nul \x00 escape \x1b[31m cr \r feed \x0c",
    "=HYPERLINK(1)",
    "\udcff lone \ud800",
    " ",
    "---",
]
CHANGED = str.maketrans("\u2039\u203a\u2236", "<>:")


def record(name: str, *captions: str, path: str | None = None, **more) -> dict:
    words = [{"word": "x", "video": 0.1, "audio": -0.2, "synergy": 0.0, "attention": 0.5}]
    return {
        "id": name,
        "path": path or f"/films/{name}",
        "status": "ok",
        "tags": [{"tag": "dog", "score": 0.9, "video": 0.4, "audio": -0.1, "synergy": 0.0}],
        "captions": [
            {"start": 2.0 * i, "end": 2.0 * i + 1.5, "text": text, "score": -0.5, "words": words}
            for i, text in enumerate(captions)
        ],
        "modality": {"used": ["video"], "shapley": {"video": 0.4, "audio": -0.1}, "attention": None},
        "spans": [[0.0, 3.0]],
        "issues": [],
        **more,
    }


FAILED = {"id": "bad.mp4", "path": "/films/bad.mp4", "status": "failed", "reason": "not_media", "detail": "@x"}


def style(name: str):
    return build(read_choice("format", name))


def written(name: str, records: list[dict], tmp_path: Path) -> Path:
    style(name).write(iter(records), tmp_path / "part")
    return tmp_path / "part"


def plain(text: str) -> list[str]:
    """What is left of a text when everything that a format may change is left out."""
    return [c for c in text if c.isalnum() and ord(c) < 0xD800]


def test_each_format_is_one_or_the_other():
    kinds = {name: style(name) for name in group_choices("format")}
    assert {name for name, each in kinds.items() if isinstance(each, TrackFormat)} == {"vtt", "srt"}
    files = {name for name, each in kinds.items() if isinstance(each, FileFormat)}
    assert files == {"jsonl", "parquet", "csv", "csv_tags", "coco"}
    folders = {name for name, each in kinds.items() if isinstance(each, FolderFormat)}
    assert folders == {"fiftyone", "huggingface"}


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


def test_csv_keeps_rows_and_has_no_formulas(tmp_path: Path):
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a;b\nc", "\udcff.mp4", "nul\x00"]
    records = [record(name, *HOSTILE, path=name) for name in names] + [FAILED]
    with written("csv", records, tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    for row, each in zip(rows, records, strict=True):
        assert all(cell[:1] not in ("=", "+", "@", "\t", "\r") for cell in row.values())
        assert row["id"][:1] != "-" and "\x00" not in "".join(row.values())
        assert row["status"] == each["status"]
    assert rows[0]["id"] == "'" + names[0]
    assert (rows[0]["tags"], float(rows[0]["score"]), float(rows[0]["audio"])) == ("dog", 0.9, -0.1), "numbers stay"
    assert rows[6]["id"] == "a;b\nc"
    assert (rows[-1]["reason"], rows[-1]["detail"], rows[-1]["score"]) == ("not_media", "'@x", "")


def test_a_row_a_tag_has_its_own_score_and_times(tmp_path: Path):
    tags = [
        {"tag": "Bicycle, bike", "score": 0.9, "modality": "audio", "video": 0.0, "audio": 0.9, "synergy": 0.0}
        | {"segments": [[0.5, 1.0], [2.0, 2.5]], "from": "sounds"},
        {"tag": "=cat", "score": 0.4, "video": 0.3, "audio": -0.1, "synergy": 0.2},
    ]
    with written("csv_tags", [record("a.mp4", tags=tags), record("b.mp4", tags=[]), FAILED], tmp_path).open() as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    shown = [(row["tag"], row["from"], row["modality"], row["score"], row["start"], row["end"]) for row in rows]
    assert shown == [
        ("Bicycle, bike", "sounds", "audio", "0.9", "0.5", "1.0"),
        ("Bicycle, bike", "sounds", "audio", "0.9", "2.0", "2.5"),
        ("'=cat", "", "", "0.4", "", ""),
    ]
    assert {row["id"] for row in rows} == {"a.mp4"} and rows[2]["audio"] == "-0.1"


def test_csv_says_what_annotators_tags_owe_to_each_stream(tmp_path: Path):
    tags = [
        {"tag": "x", "score": 0.8, "modality": "audio", "video": 0.0, "audio": 0.8, "synergy": 0.0},
        {"tag": "y", "score": 0.4, "modality": "video", "video": 0.4, "audio": 0.0, "synergy": 0.0},
    ]
    modality = {"used": ["video", "audio"], "shapley": None, "attention": None}
    with written("csv", [record("a.mp4", tags=tags, modality=modality)], tmp_path).open() as file:
        (row,) = csv.DictReader(file)
    assert (row["used"], row["video"], row["audio"]) == ("video; audio", "0.2", "0.4")


def test_parquet_holds_the_whole_record(tmp_path: Path):
    tags = [{"tag": "x", "score": 0.5, "modality": "audio", "video": 0.0, "audio": 0.5, "synergy": 0.0}]
    tags[0]["segments"] = [[0.5, 1.0], [2.0, 2.5]]  # type: ignore[assignment]
    given = [record("a.mp4", *HOSTILE[:12]), record("b.mp4", tags=tags), FAILED] * 700
    read = parquet.read_table(written("parquet", given, tmp_path)).to_pylist()
    assert len(read) == len(given)
    for before, after in zip(given, read, strict=True):
        assert _without_nulls(after, before) == before


def _without_nulls(row: dict, like: dict) -> dict:
    row = {name: value for name, value in row.items() if name in like}
    assert row.keys() == like.keys()
    for name in {"tags", "captions"} & row.keys():
        row[name] = [{key: v for key, v in each.items() if v is not None} for each in row[name]]
    for tag in row.get("tags", []):
        if "segments" in tag:
            tag["segments"] = [[part["start"], part["end"]] for part in tag["segments"]]
    if "spans" in row:
        row["spans"] = [[part["start"], part["end"]] for part in row["spans"]]
    return row


def test_parquet_tells_names_that_are_no_utf8(tmp_path: Path):
    (row,) = parquet.read_table(written("parquet", [record("\udcff.mp4")], tmp_path)).to_pylist()
    assert row["id"] == "\\udcff.mp4"


def test_coco_results_are_one_caption_a_file(tmp_path: Path):
    given = [record("42", "b", "a\n\n<i>"), record("007", "x"), record("0", "zero"), record("none"), FAILED]
    given.append(record("sub/\udcff.mp4", *HOSTILE))
    assert json.loads(written("coco", given, tmp_path).read_text())[:3] == [
        {"image_id": 42, "caption": "b a <i>"},
        {"image_id": "007", "caption": "x"},
        {"image_id": 0, "caption": "zero"},
    ]
    build({**read_choice("format", "coco"), "numbers": False}).write(given, tmp_path / "text")
    assert json.loads((tmp_path / "text").read_text())[0]["image_id"] == "42"
    with pytest.raises(UsageError, match="no record has one"):
        written("coco", [record("a"), FAILED], tmp_path)


def test_pycocoevalcap_reads_the_results(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth | {"info": {}, "licenses": []}))
    results = written("coco", [record("1", "a dog", "barks"), record("2", "rain")], tmp_path)
    read = coco.COCO(str(tmp_path / "truth.json")).loadRes(str(results))
    assert {name: [each["caption"] for each in read.imgToAnns[name]] for name in (1, 2)} == {
        1: ["a dog barks"],
        2: ["rain"],
    }


@pytest.mark.parametrize("name", ["jsonl", "csv", "csv_tags", "coco", "parquet"])
def test_memory_does_not_grow_with_the_number_of_records(name: str, tmp_path: Path):
    def many(count: int) -> Iterator[dict]:
        return (record(f"{i}.mp4", "a dog barks") for i in range(count))

    style(name).write(many(2500), tmp_path / "warm")
    peaks = []
    for count in (2500, 7500):
        tracemalloc.start()
        style(name).write(many(count), tmp_path / "part")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000


# Tracks


def tracks(folder: Path | None, overwrite: bool = False, style: TrackFormat | None = None) -> Tracks:
    return Tracks(style or WebVTT(), folder, overwrite)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "/",
        "a/../../b.mp4",
        "x" * 300 + ".mp4",
        "\u05e9" * 200,
        "d/" * 1500 + "x",
        "new\nline\x00.mp4",
        "\udcff.mp4",
        "\ud800.mp4",
        "a.vtt/b.mp4",
        "-rf",
    ],
)
def test_no_id_leads_out_of_the_folder(name: str, tmp_path: Path):
    folder = tmp_path / "inside" / "out"
    # "a" takes the name that a folder of "a.vtt/b.mp4" would have
    counts = tracks(folder).write([record("a", "first"), record(name, "said")], tmp_path / "ledger")
    assert counts["written"] == 2
    assert len(names_in(folder)) == 2
    assert names_in(tmp_path) == sorted([*(f"inside/out/{each}" for each in names_in(folder)), "ledger"])
    assert all(len(os.fsencode(part)) <= 255 for each in names_in(folder) for part in each.split("/"))


def test_records_whose_names_meet_get_a_file_each(tmp_path: Path):
    folder = tmp_path / "out"
    ids = ["a.mp4", "a.mkv", "b\x00.mp4", "b\x01.mp4", "b\x02.mp4", "v1.2"]
    given = [record(name, f"of {i}") for i, name in enumerate(ids)]
    given[-1]["path"] = "/films/clip.mp4"
    for _ in range(2):
        assert tracks(folder).write(given, tmp_path / "ledger") == Counter(written=6)
        assert names_in(folder) == ["a.mkv.vtt", "a.vtt", "b_.mp4.2.vtt", "b_.mp4.vtt", "b_.vtt", "v1.2.vtt"]
        assert "of 0" in (folder / "a.vtt").read_text() and "of 1" in (folder / "a.mkv.vtt").read_text()


def test_long_names_stay_apart_and_short_ones_stay():
    one, other = fitting("x" * 300 + "1", ".vtt"), fitting("x" * 300 + "2", ".vtt")
    assert one != other and len(one) == len(other) == 255
    assert fitting("a", ".vtt") == "a.vtt"
    assert len(os.fsencode(fitting("\u05e9" * 200, ".vtt"))) <= 255
    place = next(places(record("x", path="/films/" + "x" * 251 + ".mp4"), None, ".longer"))
    assert place.parent == Path("/films") and len(place.name) <= 255


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MmattnError, match="leads out of"):
        tracks(tmp_path / "out").write([record("sub/a.mp4", "x")], tmp_path / "ledger")
    assert not names_in(tmp_path / "elsewhere")
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "out" / "b.vtt").symlink_to(outside)
    assert tracks(tmp_path / "out").write([record("b.mp4", "x")], tmp_path / "ledger") == Counter(kept=1)
    assert tracks(tmp_path / "out", overwrite=True).write([record("b.mp4", "x")], tmp_path / "ledger")["written"] == 1
    assert outside.read_text() == "mine" and not (tmp_path / "out" / "b.vtt").is_symlink()


def test_what_others_wrote_beside_a_video_stays(tmp_path: Path):
    def given(text: str) -> list[dict]:
        return [record(name, text, path=str(tmp_path / name)) for name in ("a.mp4", "b.mp4", "c.mp4")]

    (tmp_path / "a.vtt").write_text("a person's work")
    (tmp_path / "b.vtt").mkdir()
    ledger = tmp_path / "ledger"
    for _ in range(2):
        assert tracks(None).write(given("one"), ledger) == Counter(kept=2, written=1)
    assert (tmp_path / "a.vtt").read_text() == "a person's work"
    assert tracks(None).write(given("two"), ledger)["written"] == 1, "its own it may replace"
    assert "two" in (tmp_path / "c.vtt").read_text()
    (tmp_path / "c.vtt").write_text("corrected by hand")
    assert tracks(None).write(given("three"), ledger) == Counter(kept=3)
    assert tracks(None, overwrite=True).write(given("four"), ledger) == Counter(kept=1, written=2)
    assert "four" in (tmp_path / "a.vtt").read_text() and (tmp_path / "b.vtt").is_dir()
    ledger.unlink()
    assert tracks(None).write(given("four"), ledger)["written"] == 2, "what is the same anyway needs no leave"


def test_tracks_of_earlier_answers_go_with_them(tmp_path: Path):
    folder, ledger = tmp_path / "out", tmp_path / "ledger"
    tracks(folder).write([record("a.mp4", "x"), record("b.mp4", "x"), record("c.mp4", "x")], ledger)
    tracks(folder, style=SubRip()).write([record("a.mp4", "x")], ledger)
    (folder / "c.vtt").write_text("changed by a person")
    assert tracks(folder).write([record("a.mp4", "x"), record("b.mp4")], ledger) == Counter(written=1, nothing=1)
    assert names_in(folder) == ["a.srt", "a.vtt", "c.vtt"]


def output(**settings: object) -> Output:
    return output_of({**compose("predict", ["run=r", "source=s"]), **settings})


@pytest.mark.parametrize("asked", ["tracks", "burn_in"])
def test_members_of_a_tar_are_refused_before_any_work(asked: str, tmp_path: Path):
    wanted = output(**{asked: "beside" if asked == "tracks" else str(tmp_path / "burnt")}, out=tmp_path / "o.jsonl")
    with pytest.raises(UsageError, match=r"000\.tar"):
        wanted.check([tmp_path / "000.tar"])


@pytest.mark.parametrize("asked", ["out", "tracks", "beside", "burn_in"])
def test_a_place_that_takes_no_files_is_refused_before_any_work(asked: str, tmp_path: Path):
    """/proc takes none, not even from root."""
    there = Path("/proc/self/fdinfo") if asked == "beside" else Path("/proc/self/new")
    settings: dict[str, object] = {"out": tmp_path / "o.jsonl"}
    settings |= (
        {"tracks": "beside"} if asked == "beside" else {asked: str(there / "x.jsonl" if asked == "out" else there)}
    )
    with pytest.raises(UsageError, match=r"cannot write in /proc/\S+ \(.+\); name another folder"):
        output(**settings).check([there / "a.mp4" if asked == "beside" else tmp_path / "a.mp4"])


def test_places_that_take_files_are_not_touched(tmp_path: Path):
    (tmp_path / "in").mkdir()
    wanted = output(out=tmp_path / "new" / "o.jsonl", tracks="beside", burn_in=str(tmp_path / "burnt"))
    wanted.check([tmp_path / "in" / "a.mp4", tmp_path / "gone" / "b.mp4"])
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_a_damaged_ledger_is_one_line(tmp_path: Path):
    (tmp_path / "ledger").write_bytes(b"no database" * 100)
    with pytest.raises(MmattnError, match="cannot be used"):
        tracks(tmp_path / "out").write([record("a.mp4", "x")], tmp_path / "ledger")
