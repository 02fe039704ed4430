"""The page of one file: words that say each thing once, heat with its scale, a first screen that holds both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmattn.media.write.video import write_video
from mmattn.reports.explain.explained import Explained, ExplainedWindow, Steps
from mmattn.reports.explain.heat import heat_of, hottest
from mmattn.reports.explain.page import render, verdict
from mmattn.reports.explain.video import Still, _jpeg
from mmattn.weighting.causal import SUBSETS

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"
TAG = {"tag": "dog", "video": -0.10, "audio": 0.57}


def steps(places: int, looked: torch.Tensor | None = None) -> Steps:
    heat = torch.linspace(-0.001, 0.004, 4 * places).view(1, 4, places)
    return Steps(torch.arange(4.0), heat, looked, torch.full((4,), 0.51), 0.48)


def explained(path: Path) -> Explained:
    scores = {subset: torch.tensor([0.2 + 0.2 * i] * 4) for i, subset in enumerate(SUBSETS)}
    streams: Any = {"video": steps(4), "audio": steps(1)}
    window = ExplainedWindow(0.0, 0.0, 4.0, torch.zeros(8, 4), scores, streams, {})
    return Explained(path, ["dog", "cat", "bird", "fish"], [window], [])


@pytest.mark.parametrize(
    ("tag", "audio", "says"),
    [
        (TAG, 0.49, "depends more on the sound (picture \u22120.10, sound +0.57). Attention leans to neither (49"),
        (TAG, 0.80, "depends more on the sound (picture \u22120.10, sound +0.57). Attention leans to the sound too"),
        (TAG, 0.20, "Attention leans to the picture instead"),
        (TAG | {"video": 0.55}, 0.80, "depends on picture and sound about equally (picture +0.55, sound +0.57). Att"),
    ],
)  # fmt: skip
def test_what_a_score_depends_on_is_said_whatever_attention_does(tag: dict, audio: float, says: str) -> None:
    assert says in verdict(tag, {"audio": audio, "prior": 0.48}, True)


def test_attention_that_is_even_colours_nothing() -> None:
    even = torch.full((1, 4, 9), 1 / 36)
    assert not heat_of(steps(9, even), attention=True).any()
    even[0, 2, 3] *= 2
    heat = heat_of(steps(9, even), attention=True)
    assert heat.argmax() == 2 * 9 + 3 and heat.max() > 0.9 and (heat > 0.01).sum() == 1


def test_the_first_screen_holds_the_player_and_the_tags(driver: Any, tmp_path: Path) -> None:
    frames = np.full((20, 240, 240, 3), 90, np.uint8)
    write_video(tmp_path / "explain.mp4", frames, 10)
    found = explained(tmp_path / "film.mp4")
    page = tmp_path / "explain.html"
    page.write_bytes(render(found, [Still(1.0, _jpeg(frames[0]))], "explain.mp4"))
    driver.get(page.as_uri())
    assert driver.get_log("browser") == []
    driver.save_screenshot(str(SHOTS / "explain.png")) if SHOTS.is_dir() else None
    video = driver.find_element("css selector", "video")
    cards = driver.find_elements("css selector", "#tags figure")
    height = driver.execute_script("return window.innerHeight")
    assert video.rect["y"] + video.rect["height"] < height and video.get_attribute("poster").startswith("data:image/")
    assert len(cards) == 4 and all(card.rect["x"] >= video.rect["x"] + video.rect["width"] for card in cards)
    assert cards[0].rect["y"] + cards[0].rect["height"] < height
    shown = driver.find_element("css selector", "main").text
    assert (
        f"Full colour is {hottest(found, False):.2g}" in shown
        and "all of one moment together change it by up to" in shown
    )
    assert len(driver.find_elements("css selector", "#moments img")) == 1, "one picture a moment"
