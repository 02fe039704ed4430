"""mmattn search: what is in a library is found with its time, and what is typed is text."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_records import HOSTILE
from record_kinds import ANNOTATED, FAILED, KINDS, NOTHING_FOUND, TRAINED

from mmattn.cli.main import main
from mmattn.errors import UsageError
from mmattn.inference.search.index import open_index
from mmattn.inference.search.library import read_library
from mmattn.inference.search.query import Hit, find, terms_of

ALL = ("transcript", "caption", "tag", "text")


def library(folder: Path, *records: dict) -> Path:
    path = folder / "library.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def found(path: Path, question: str, **more: int) -> list[Hit]:
    with open_index(path) as (database, _):
        return find(database, terms_of(question), ALL, more.get("limit", 20), more.get("each", 3))


def tagged(name: str, *tags: str, **more: object) -> dict:
    return {**TRAINED, "id": name, "captions": [], "tags": [{"tag": tag, "score": 0.5} for tag in tags], **more}


def test_each_kind_of_text_is_found_where_it_is(tmp_path: Path) -> None:
    path = library(tmp_path, *KINDS.values())
    for question, kind, start, end in (
        ("evenings", "transcript", 0.5, 2.0),
        ("persons talking", "caption", 0.0, 9.0),
        ("exit", "text", 1.0, 3.0),
        ("bark", "tag", 7.0, 9.0),
        ("clothes", "tag", None, None),
    ):
        hits = [hit for hit in found(path, question) if hit.file == "talk.mp4"]
        assert (kind, start, end) in [(hit.kind, hit.start, hit.end) for hit in hits], question
    assert found(path, "unheard") == []


def test_files_with_more_of_what_was_asked_come_first(tmp_path: Path) -> None:
    records = [tagged(f"{k}.mp4", "rain", "rain on surface") for k in range(30)]
    records.insert(17, tagged("both.mp4", "dog", "barking", "rain"))
    hits = found(library(tmp_path, *records), "the dog barking in the rain", each=5)
    assert [hit.file for hit in hits[:3]] == ["both.mp4"] * 3 and len(hits) == 20
    assert {term for hit in hits[:3] for term in hit.terms} == {"dog", "barking", "rain"}
    assert len(found(library(tmp_path, *records), "rain", each=1, limit=99)) == 31


def test_phrases_endings_and_scripts_without_blanks(tmp_path: Path) -> None:
    path = library(tmp_path, tagged("a", "red sports car"), tagged("b", "car, red"), tagged("c", "\u5927\u72d7\u53eb"))
    assert [hit.file for hit in found(path, '"red sports"')] == ["a"]
    assert [hit.file for hit in found(path, "spor*")] == ["a"] and not found(path, "spor")
    assert [hit.file for hit in found(path, "\u72d7\u53eb")] == ["c"]
    assert {hit.file for hit in found(path, "R\u00c9D")} == {"a", "b"}, "case and accents do not matter"


def test_what_is_typed_is_text_and_never_syntax(tmp_path: Path) -> None:
    path = library(tmp_path, *KINDS.values(), *(tagged(str(k), text) for k, text in enumerate(HOSTILE)))
    pieces = [
        "NEAR(",
        ")",
        '"',
        "'",
        "*",
        "^",
        "AND",
        "OR",
        "NOT",
        "-",
        ":",
        "text:",
        "{a b}",
        ";",
        "--",
        "\x00",
        "x",
        "+",
    ]
    draw = random.Random(0)
    with open_index(path) as (database, _):
        for _ in range(500):
            question = draw.choice(("", " ")).join(draw.choices([*pieces, *HOSTILE], k=draw.randint(1, 8)))
            terms = terms_of(question)
            for hit in find(database, terms, ALL, 20, 3):
                assert set(hit.terms) <= set(terms)
    assert [hit.text for hit in found(path, "HYPERLINK")] == ["=HYPERLINK(1)"]


def test_the_index_is_made_once_and_again_when_the_library_changes(tmp_path: Path) -> None:
    path = library(tmp_path, TRAINED)
    index = tmp_path / "library.jsonl.index"
    assert found(path, "rain") and not found(path, "evening")
    made = index.stat().st_mtime_ns, index.stat().st_ino
    assert found(path, "rain") and (index.stat().st_mtime_ns, index.stat().st_ino) == made
    library(tmp_path, TRAINED, ANNOTATED)
    assert found(path, "evening")
    stamp, size = path.stat(), path.stat().st_size
    path.write_text(path.read_text().replace("evening", "morning"))
    assert path.stat().st_size == size, "of the same size"
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1000))
    assert found(path, "morning") and not found(path, "evening")
    moved = path.rename(tmp_path / "other.jsonl")
    index.rename(tmp_path / "other.jsonl.index")
    assert found(moved, "morning"), "one of another path is made anew"
    for damage in (lambda raw: raw[:5000], lambda raw: raw[:100] + os.urandom(len(raw) - 100)):
        place = tmp_path / "other.jsonl.index"
        place.write_bytes(damage(place.read_bytes()))
        assert found(moved, "morning"), "a damaged one is made anew"


def test_what_others_keep_there_stays(tmp_path: Path) -> None:
    path = library(tmp_path, TRAINED)
    place = tmp_path / "library.jsonl.index"
    place.write_text("mine")
    with pytest.raises(UsageError, match="is not an index of mmattn search; name another"):
        found(path, "rain")
    place.unlink()
    with sqlite3.connect(place) as others:
        others.execute("CREATE TABLE mine (x)")
    others.close()
    with pytest.raises(UsageError, match="is not an index"):
        found(path, "rain")


def test_a_folder_that_takes_no_files_needs_none(tmp_path: Path) -> None:
    path = library(tmp_path, TRAINED)
    with open_index(path, Path("/proc/self/fdinfo/index")) as (database, _):
        assert find(database, ["rain"], ALL, 9, 9)


NO_RECORDS = [
    *("no json", "[]", "{}", '{"path": "x"}', '{"path": 1, "status": "ok"}', "[" * 100_000, "\x00"),
    json.dumps({**TRAINED, "tags": [{"tag": "x"}]}),
    json.dumps({**TRAINED, "unknown": 1}),
    json.dumps({**ANNOTATED, "transcript": [{"start": "now", "end": 1, "text": "x"}]}),
]


@pytest.mark.parametrize("line", NO_RECORDS, ids=range(len(NO_RECORDS)))
def test_a_line_that_is_no_record_is_named(line: str, tmp_path: Path) -> None:
    path = library(tmp_path, TRAINED, FAILED)
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"library\.jsonl:4: is not a record of mmattn predict"):
        list(read_library(path))
    with pytest.raises(UsageError, match=r":4: "):
        found(path, "rain")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["library.jsonl"], "nothing half made is left"


def test_the_program_prints_file_time_and_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {
        **ANNOTATED,
        "id": "long\x1b[31m.mp4",
        "transcript": [{"start": 3723.4, "end": 3725, "text": "so " * 200 + "zebra"}],
    }
    path = library(tmp_path, ANNOTATED, NOTHING_FOUND, long)
    assert main(["search", str(path), "good", "evening"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "talk.mp4  0:00:00.5-0:00:02.0  transcript  Good evening, everyone.",
        "1 passage in 1 file",
    ]
    assert main(["search", str(path), "zebra"]) == 0
    out = capsys.readouterr().out
    assert "1:02:03.4-1:02:05.0" in out and "zebra" in out and "\x1b" not in out and len(out.splitlines()[0]) < 200
    assert main(["search", str(path), "format=jsonl", "query=bark dog=x", "kinds=[tag]"]) == 0
    (line,) = (json.loads(each) for each in capsys.readouterr().out.splitlines() if '"talk.mp4"' in each)
    assert (line["kind"], line["start"], line["end"], line["terms"]) == ("tag", 7.0, 9.0, ["bark"])
    assert main(["search", str(path), "unheard of"]) == 0
    assert capsys.readouterr().out == "nothing with unheard\n"


def test_a_wrong_question_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(library(tmp_path, TRAINED))
    for arguments, says in (
        ([], "library is not set"),
        ([path], "query is not set"),
        ([path, "*"], "holds no word"),
        ([path + "x", "dog"], "no such file"),
        ([path, "dog", "format=csv"], "expected text or jsonl"),
        ([path, "dog", "kinds=[smell]"], "expected some of transcript"),
        ([path, "dog", "limit=0"], "expected 1 or more"),
    ):
        assert main(["search", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, arguments


def test_it_loads_no_torch() -> None:
    code = "import sys, mmattn.inference.commands.search; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
