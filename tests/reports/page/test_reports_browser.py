"""The comparison's page in a real browser: no complaint, sorts, filters, brings out, dresses, plays, stays inert.

Screenshots are kept in build/screenshots, which git ignores.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import make_grid

from mmattn.media.write.video import write_video
from mmattn.reports.page.options import Options
from mmattn.reports.page.report import write_report

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs: four fusions x three attentions x two seeds, with media; one folder is named with bad intent."""
    folder = tmp_path_factory.mktemp("page")
    data = folder / "data"
    data.mkdir()
    rows = []
    for number, name in enumerate(("one", "two <b>", "three")):
        path = data / f"{number}.mp4"
        tone = np.sin(np.arange(16000) * (0.1 + 0.1 * number)).astype(np.float32) * 0.3
        frames = np.full((10, 36, 64, 3), 60 * number + 40, np.uint8)
        write_video(path, frames, 10, None if number == 2 else tone, 16000)
        rows.append({"id": name, "path": path.name, "tags": ["picture/x"], "split": "val"})
    (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {"late": "late", "concat": "concat", "cross": "cross", f"b{HOSTILE.replace('/', '')}": "bottleneck"}
    runs = make_grid(folder / "runs", names, ["dense", "time_window", "linear"], 2, data)
    out = folder / "compare.html"
    return write_report(runs, None, out, title=f"{HOSTILE}</title>", notes=[HOSTILE], options=Options(samples=3))


@pytest.fixture
def shown(driver: Any, page: Path) -> Callable[[str], Any]:
    """Load the page afresh, with what its address remembers."""

    def show(remembered: str = "") -> Any:
        driver.get("about:blank")
        driver.get(page.as_uri() + remembered)
        return driver

    return show


def find(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


def visible(driver: Any) -> list[str]:
    names = [body.find_element("css selector", "bdi").text for body in find(driver, "#main > tbody")]
    hidden = [body.get_attribute("hidden") for body in find(driver, "#main > tbody")]
    return [name for name, away in zip(names, hidden, strict=True) if not away]


def shot(driver: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    size = driver.execute_script("return [innerWidth, Math.min(document.documentElement.scrollHeight, 6000)]")
    clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
    png = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})["data"]
    (SHOTS / f"{name}.png").write_bytes(base64.b64decode(png))


def test_it_loads_small_and_without_complaint(page: Path, shown: Callable[..., Any]) -> None:
    driver = shown()
    assert driver.get_log("browser") == []
    assert page.stat().st_size < 5 << 20
    assert len(visible(driver)) == 12 and find(driver, "#shown")[0].text == "12"
    assert driver.title == f"{HOSTILE}</title>"
    shot(driver, "compare-light")


def test_hostile_names_are_text(shown: Callable[..., Any]) -> None:
    driver = shown()
    assert not find(driver, "img[src=x]") and not find(driver, "td i, th i, bdi i, bdi b, p b bdi b")
    assert HOSTILE in find(driver, ".note")[0].text
    sources = driver.execute_script("return [...document.querySelectorAll('[src]')].map((e) => e.src.slice(0, 5))")
    assert set(sources) == {"data:"}
    refused = driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'https://example.org/x.png'; document.body.append(i);"
        "return window.ran === undefined"
    )
    assert refused, "the page's policy lets no other script run"
    assert any("Content Security Policy" in entry["message"] for entry in driver.get_log("browser"))


def test_it_sorts_by_every_column(shown: Callable[..., Any]) -> None:
    driver = shown()
    heads = find(driver, "#main thead button")
    first = visible(driver)
    place = [head.text for head in heads].index("score")
    heads[place].click()
    scores = [float(row.find_elements("css selector", "tr:first-child > *")[place].text)
              for row in find(driver, "#main > tbody")]  # fmt: skip
    assert scores == sorted(scores, reverse=True)
    heads[place].click()
    assert visible(driver) != first or len(set(scores)) == 1
    assert find(driver, "#main th[aria-sort=ascending]")
    heads[0].click()
    assert visible(driver) == sorted(first, key=str.lower) != first
    heads[0].click()
    assert visible(driver) == sorted(first, key=str.lower, reverse=True)
    assert "sort=" in driver.current_url
    for head in heads:
        head.click()
    assert driver.get_log("browser") == []


def test_it_filters_by_words_and_chips(shown: Callable[..., Any]) -> None:
    driver = shown()
    (search,) = find(driver, "#search")
    search.send_keys("cross")
    assert len(visible(driver)) == 3 and find(driver, "#shown")[0].text == "3"
    search.send_keys(" linear")
    assert visible(driver) == ["cross linear"]
    address = driver.current_url
    assert visible(shown("#" + address.partition("#")[2])) == ["cross linear"], "the address remembers it"
    driver = shown()
    find(driver, "button[data-chip=late]")[0].click()
    assert len(visible(driver)) == 3
    find(driver, "button[data-chip=dense]")[0].click()
    assert len(visible(driver)) == 1, "late and dense"
    find(driver, "button[data-chip=cross]")[0].click()
    assert len(visible(driver)) == 2, "late or cross, and dense"


def test_seeds_open_and_runs_are_brought_out_by_keyboard(shown: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = shown()
    opener = find(driver, "button.open")[0]
    assert not find(driver, "tr.seed")[0].is_displayed()
    opener.send_keys(Keys.ENTER)
    assert find(driver, "tr.seed")[0].is_displayed() and opener.get_attribute("aria-expanded") == "true"
    name = find(driver, "button[data-pick]")[7]
    name.send_keys(Keys.SPACE)
    place = name.get_attribute("data-pick")
    lit = driver.execute_script("return [...document.querySelectorAll('.lit')].map((e) => e.dataset.run)")
    assert len(lit) > 5 and set(lit) == {place}
    shot(driver, "compare-picked")


def test_the_theme_changes_and_stays(shown: Callable[..., Any]) -> None:
    def paper(driver: Any) -> str:
        return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

    driver = shown()
    (button,) = find(driver, "#theme")
    button.click()
    light = paper(driver)
    button.click()
    dark = paper(driver)
    assert light != dark and button.text == "theme: dark"
    assert paper(shown("#theme=dark")) == dark
    shot(driver, "compare-dark")
    assert paper(shown("#theme=%3Cscript%3E")) in (light, dark)


def test_a_clip_plays(shown: Callable[..., Any]) -> None:
    driver = shown()
    players = find(driver, "audio")
    assert len(players) == 2, "one of the three clips is silent"
    driver.execute_script("arguments[0].muted = true; arguments[0].play()", players[0])
    until = time.monotonic() + 20
    while time.monotonic() < until and not driver.execute_script("return arguments[0].currentTime", players[0]):
        time.sleep(0.05)
    assert driver.execute_script("return arguments[0].currentTime > 0", players[0])
    assert driver.execute_script("return arguments[0].duration", players[0]) == pytest.approx(1.0, abs=0.1)
    pictures = find(driver, "#clips .film img")
    assert len(pictures) == 12 and driver.execute_script("return arguments[0].naturalWidth", pictures[0]) > 0


def test_what_a_row_lacks_is_last_whichever_way_it_sorts(driver: Any, tmp_path: Path) -> None:
    names = {"film": "film", "late": "late", "concat": "concat", "cross": "cross"}
    runs = make_grid(tmp_path / "runs", names, ["dense"], 1, tmp_path)
    for run, seconds in zip(runs, (3.0, None, 1.0, 2.0), strict=True):
        line = "" if seconds is None else json.dumps({"step": 1, "time": seconds, "train/loss": 1.0, "epoch": 0})
        (run / "metrics.jsonl").write_text(line + "\n")
    driver.get(write_report(runs, None, tmp_path / "lacks.html").as_uri())
    (head,) = [head for head in find(driver, "#main thead button") if head.text == "training"]
    head.click()
    assert [name.partition("-")[0] for name in visible(driver)] == ["film", "cross", "concat", "late"]
    head.click()
    assert [name.partition("-")[0] for name in visible(driver)] == ["concat", "cross", "film", "late"]


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows, 30 clips: late is better on the first 23, cross on the last 6; synergy grows, tags are of two kinds."""
    folder = tmp_path_factory.mktemp("clips")
    runs = make_grid(folder / "runs", {"late": "late", "cross": "cross"}, ["dense"], 1, folder)
    for run, sign in zip(runs, (1, -1), strict=True):
        clips = [
            {
                "id": f"clip {i:02}",
                "tags": ["dog" if i % 2 else "bird"],
                "value": {"both": 0.5 + sign * 0.01 * (24 - i)},
                "video": -0.01 * i,
                "audio": 0.2,
                "synergy": 0.01 * i,
            }
            for i in range(1, 31)
        ]
        (run / "evaluation-val-clips.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return write_report(runs, None, folder / "clips.html", options=Options(samples=1))


def clips_on(driver: Any) -> list[str]:
    return [
        card.find_element("css selector", ".path bdi").text for card in find(driver, "#clips article:not([hidden])")
    ]


def chosen(driver: Any, control: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(driver.find_element("id", control)).select_by_visible_text(text)


def test_clips_are_browsed(driver: Any, many_clips: Path) -> None:
    driver.get(many_clips.as_uri())
    assert clips_on(driver) == [f"clip {i:02}" for i in range(1, 13)], "where rows disagree most"
    chosen(driver, "clip-order", "most synergy")
    assert clips_on(driver) == [f"clip {i}" for i in range(30, 18, -1)]
    chosen(driver, "clip-order", "most from the picture")
    assert clips_on(driver)[0] == "clip 01"
    more = driver.find_element("id", "more-clips")
    more.click()
    more.click()
    assert len(clips_on(driver)) == 30 and not more.is_displayed()
    chosen(driver, "clip-above", "cross-dense-0")
    assert clips_on(driver) == [f"clip {i}" for i in range(30, 24, -1)], "above the mean of the rows"
    chosen(driver, "clip-below", "late-dense-0")
    assert clips_on(driver) == [f"clip {i}" for i in range(30, 24, -1)], "where cross is furthest above late"
    assert driver.find_element("id", "clips-found").text == "6"
    driver.find_element("id", "clip-find").send_keys("dog")
    assert clips_on(driver) == ["clip 29", "clip 27", "clip 25"]
    driver.get(address := driver.current_url)
    driver.refresh()
    assert len(clips_on(driver)) == 3 and "above=" in address, "the address remembers it"
    driver.find_element("id", "clip-find").send_keys(" neither")
    assert clips_on(driver) == [] and driver.find_element("id", "clips-found").text == "0"
    assert driver.get_log("browser") == []
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        driver.get(many_clips.as_uri() + "#theme=dark")
        driver.refresh()
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        shot(driver, "clips-phone-dark")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_has_nothing_beside_the_screen(shown: Callable[..., Any]) -> None:
    driver = shown()
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        driver = shown()
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        name, score = find(driver, "#main tbody th")[0], find(driver, "#main tbody td")[0]
        assert name.size["height"] < 100 and score.rect["x"] + score.rect["width"] < 390, "the score beside its name"
        shot(driver, "compare-phone")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_watched_page_loads_itself_again_and_keeps_what_was_chosen(driver: Any, tmp_path: Path) -> None:
    runs = make_grid(tmp_path / "runs", {"late": "late", "cross": "cross"}, ["dense"], 1, tmp_path / "none")
    out, options = tmp_path / "watched.html", Options(refresh_s=1.0)
    write_report(runs, None, out, notes=["first"], options=options)
    driver.get(out.as_uri())
    find(driver, "button[data-chip=late]")[0].click()
    write_report(runs, None, out, notes=["second"], options=options)
    until = time.monotonic() + 30
    while "second" not in driver.page_source:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert len(visible(driver)) == 1
