"""A library's page in a real browser: searches, filters, plays, jumps; thousands of files; records are only text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.media.write.video import write_video

HOSTILE = '</script><img src=x onerror="document.title=1"><b>'
MANY = 10_000


def record(name: str, path: Path, **more: Any) -> dict[str, Any]:
    tags = [
        {
            "tag": "Dog, small",
            "score": 0.9,
            "modality": "audio",
            "segments": [[1.0, 2.0], [3.0, 3.5]],
            "from": "sounds",
        },
        {"tag": "car", "score": 0.4},
    ]
    return {
        "id": name,
        "path": str(path),
        "status": "ok",
        "tags": tags,
        "captions": [
            {"start": 0.0, "end": 4.0, "text": "a dog runs"},
            {"start": 0.0, "end": 4.0, "text": "a dog and its ball", "level": "chapter"},
        ],
        "transcript": [
            {"start": 0.5, "end": 1.5, "text": "Good evening."},
            {"start": 2.5, "end": 3.5, "text": "Here is the zebra."},
        ],
        "shots": [[0.0, 2.0], [2.0, 4.0]],
        "texts": [{"start": 1.0, "end": 2.0, "text": "EXIT"}],
        "modality": {"used": ["video", "audio"], "shapley": None, "attention": None},
        "spans": [[0.0, 4.0]],
        "issues": [],
        **more,
    }


def written(folder: Path, records: list[dict[str, Any]], *options: str) -> Path:
    library = folder / "library.jsonl"
    library.write_text("".join(json.dumps(each) + "\n" for each in records))
    assert main(["browse", str(library), *options]) == 0
    return folder / "library.jsonl.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with an odd name, one that is gone, one that nobody speaks in, one that failed, one with bad intent."""
    folder = tmp_path_factory.mktemp("browse")
    film = folder / "a film #1 100%?.mp4"
    write_video(film, np.full((40, 36, 64, 3), 90, np.uint8), 10, np.zeros(64000, np.float32), 16000)
    plain = [{"tag": "rain", "score": 0.5}]
    hostile = [{"tag": HOSTILE, "score": 0.5, "segments": [[0, 1]]}]
    said = [{"start": 0.0, "end": 1.0, "text": HOSTILE}]
    seen = {"used": ["video"], "shapley": None, "attention": None}
    records = [
        record("film", film),
        record("gone", folder / "gone.mp4"),
        record("silent", film, tags=plain, captions=[], transcript=[], modality=seen),
        {"id": "bad", "path": str(folder / "bad"), "status": "failed", "reason": "not_media", "detail": HOSTILE},
        record(HOSTILE, Path(f"/{HOSTILE}"), tags=hostile, captions=said, transcript=said, texts=said),
    ]  # fmt: skip
    return written(folder, records, "thumbnails=true")


@pytest.fixture
def shown(driver: Any, page: Path) -> Callable[..., Any]:
    def show(which: Path = page) -> Any:
        driver.get("about:blank")
        driver.get(which.as_uri())
        until(lambda: "of" in one(driver, "#shown").text)
        return driver

    return show


def one(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def every(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


def names(driver: Any) -> list[str]:
    return texts(driver, "article .name")


def texts(driver: Any, selector: str) -> list[str]:
    """At one instant: the page may be drawn anew between two looks."""
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)", selector
    )


def current_time(driver: Any) -> float:
    return driver.execute_script("return document.querySelector('video').currentTime")


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_loads_all_and_without_complaint(shown: Callable[..., Any]) -> None:
    driver = shown()
    assert driver.get_log("browser") == []
    assert names(driver) == ["film", "gone", "silent", "bad", HOSTILE] and one(driver, "#shown").text == "5 of 5"
    assert driver.execute_script("return document.querySelector('article img').naturalWidth") > 0
    assert len(every(driver, "article img")) == 2, "of files that can be read"


def test_it_finds_what_is_said_seen_and_read(shown: Callable[..., Any]) -> None:
    driver = shown()
    found_by = {"ZEBRA": ["film", "gone"], "zebra exit small": ["film", "gone"], "rain": ["silent"], "none": []}
    for words, found in found_by.items():
        one(driver, "#search").clear()
        one(driver, "#search").send_keys(words)
        until(lambda found=found: names(driver) == found)
    one(driver, "#search").clear()
    one(driver, "#search").send_keys("zebra")
    until(lambda: "0:02 Here is the zebra." in texts(driver, "article .found"))


def test_it_filters_by_tag_stream_and_status(shown: Callable[..., Any]) -> None:
    driver = shown()
    choose = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    driver.execute_script(choose, "status", "not_media")
    assert names(driver) == ["bad"]
    driver.execute_script(choose, "status", "")
    driver.execute_script(choose, "stream", "audio")
    assert names(driver) == ["film", "gone", HOSTILE]
    driver.execute_script(choose, "stream", "video")
    one(driver, "#tag").send_keys("rain")
    until(lambda: names(driver) == ["silent"])
    options = driver.execute_script("return [...document.querySelectorAll('#tags option')].map((one) => one.value)")
    assert "Dog, small" in options


def test_a_click_on_the_timeline_jumps_there(shown: Callable[..., Any]) -> None:
    driver = shown()
    one(driver, "article > button").click()
    until(lambda: driver.execute_script("return document.querySelector('video').readyState >= 1"))
    lanes = {each.text for each in every(driver, ".lane > span")}
    assert lanes == {"shots", "speech", "captions", "chapters", "to read", "Dog, small"}
    places = {".track .audio:nth-of-type(2)": 3.0, ".words li:nth-child(5) button": 2.5, ".track .shot": 0.0}
    for selector, expected in places.items():
        button = one(driver, selector)
        assert float(button.get_attribute("data-time")) == expected
        driver.execute_script("arguments[0].click(); document.querySelector('video').pause()", button)
        until(lambda expected=expected: abs(current_time(driver) - expected) < 0.3)
    left = driver.execute_script("return document.querySelectorAll('.track .audio')[1].style.left")
    assert float(left.rstrip("%")) == pytest.approx(75), "3 of 4 s"
    one(driver, "article > button").click()
    assert not every(driver, "video")


def test_a_file_that_is_gone_says_so(shown: Callable[..., Any]) -> None:
    driver = shown()
    every(driver, "article > button")[1].click()
    until(lambda: "is not where it was" in one(driver, ".detail").text)


def test_records_are_only_text(shown: Callable[..., Any], page: Path) -> None:
    driver = shown()
    for opener in every(driver, "article > button"):
        driver.execute_script("arguments[0].click()", opener)
    title = driver.title
    assert title == "library.jsonl" and not every(driver, "img[src=x], article b")
    assert HOSTILE in one(driver, "article:last-child .words").text
    assert HOSTILE.encode() not in page.read_bytes()
    refused = driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "return window.ran === undefined"
    )
    assert refused, "the page's policy lets no other script run"


def test_ten_thousand_files_are_searched_and_scrolled(driver: Any, shown: Callable[..., Any], tmp_path: Path) -> None:
    """What is drawn does not grow with the library."""
    signs = [[{"start": 0, "end": 1, "text": f"sign{k}."}] for k in range(MANY)]
    records = [record(f"{k:05d}.mp4", tmp_path / f"{k}.mp4", texts=sign) for k, sign in enumerate(signs)]
    page = written(tmp_path, records)
    assert page.stat().st_size < 400 * MANY
    shown(page)
    assert one(driver, "#shown").text == f"{MANY} of {MANY}" and 0 < len(names(driver)) <= 300
    drawn = len(names(driver))
    driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    until(lambda: len(names(driver)) > drawn)
    one(driver, "#search").send_keys("sign9876. zebra")
    until(lambda: names(driver) == ["09876.mp4"])


def test_what_cannot_be_shown_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "l.jsonl").write_text("{}\n")
    (tmp_path / "folder").mkdir()
    for arguments, says in (
        ([], "library is not set"),
        ([str(tmp_path / "none")], "no such file"),
        ([str(tmp_path / "l.jsonl")], "l.jsonl:1: is not a record"),
        ([str(tmp_path / "l.jsonl"), f"out={tmp_path / 'folder'}"], "expected the name of a page"),
        ([str(tmp_path / "l.jsonl"), "out=page.csv"], "expected the name of a page"),
        ([str(tmp_path / "l.jsonl"), "another"], "one name too many"),
    ):
        assert main(["browse", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, arguments
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "l.jsonl"]
