"""Which tags are listed: by the threshold that was asked for, else the tag's own, else 0.5; groups by their highest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tagging_rules import FPS, rules

from mmattn.inference.predictor.pipeline import Predictor
from mmattn.media.write.video import write_video


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bright scores about 0.4, loud 0."""
    path = tmp_path_factory.mktemp("grey") / "grey.mp4"
    write_video(path, np.full((FPS, 32, 32, 3), 102, np.uint8), FPS)
    return path


@pytest.mark.parametrize(
    ("asked", "calibrated", "listed"),
    [
        (None, {}, set()),
        (None, {"bright": 0.3}, {"bright"}),
        (None, {"bright": 0.45, "loud": 0.0}, {"loud"}),
        (0.3, {"bright": 0.45, "loud": 0.0}, {"bright"}),
        (0.0, {"bright": 0.45}, {"bright", "loud", "red_left"}),
    ],
)
@pytest.mark.parametrize("step", [None, 0.5])
def test_the_threshold_is_the_asked_the_calibrated_or_a_half(
    grey: Path, asked: float | None, calibrated: dict[str, float], listed: set[str], step: float | None
) -> None:
    record = Predictor(rules(thresholds=calibrated), threshold=asked, span_step_s=step)(grey).to_dict()
    assert {tag["tag"] for tag in record["tags"]} == listed | {"time/night"}
