"""Clips with their weightings drawn in: what is drawn is what was measured, at the time that it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmattn.weighting.causal import shapley, subset_scores
from mmattn.weighting.panel import (
    AUDIO,
    INK,
    LINE,
    PICTURE,
    SPECTRUM,
    STRIP,
    TAGS,
    VIDEO,
    WIDTH,
    ClipPanel,
    clip_panels,
)


def _columns(panel: ClipPanel, frame: int, colour: tuple, rows: slice) -> list[int]:
    """Where a colour stands in some rows of a frame, by column."""
    return np.flatnonzero((panel.frames[frame, rows] == colour).all(axis=-1).all(axis=0)).tolist()


@pytest.mark.parametrize("fusion", ["late", "cross", "bottleneck", "gated"])
def test_each_real_clip_with_a_picture_has_one(fusion: str, tiny_model: Callable, make_batch: Callable) -> None:
    model = tiny_model(f"fusion={fusion}")
    batch = make_batch(5, missing={1: "video", 2: "audio"}, lengths=[1, 1, 1, 0.5, 1])
    batch = replace(batch, real=torch.tensor([True, True, True, True, False]))
    panels = clip_panels(model, batch, limit=9)
    assert [panel.id for panel in panels] == ["clip0", "clip2", "clip3"]
    assert [len(panel.frames) for panel in panels] == [4, 4, 2]
    height = PICTURE + STRIP + SPECTRUM + LINE * (TAGS + 1)
    assert all(panel.frames.shape[1:] == (height, WIDTH, 3) and panel.frames.dtype == np.uint8 for panel in panels)
    assert all(panel.fps == pytest.approx(8.0) for panel in panels)
    assert [panel.id for panel in clip_panels(model, batch, limit=1)] == ["clip0"]
    assert clip_panels(model, batch, limit=0) == []


def test_the_playhead_is_at_the_time_of_the_frame(tiny_model: Callable, make_batch: Callable) -> None:
    batch = make_batch(1, frames=4, rows=50)
    (panel,) = clip_panels(tiny_model("fusion=late"), batch, limit=1)
    start, end = 0.0, 0.49  # of the spectrogram, which is longer than the picture at both ends
    for number, time in enumerate(batch.frame_times[0].tolist()):
        expected = round((time - start) / (end - start) * (WIDTH - 1))
        assert _columns(panel, number, INK, slice(PICTURE, PICTURE + STRIP + SPECTRUM)) == [expected]


def test_the_bars_are_the_shapley_split_of_the_highest_tags(tiny_model: Callable, make_batch: Callable) -> None:
    model, batch = tiny_model("fusion=cross"), make_batch(2)
    with torch.no_grad():
        for weight in model.task.parameters():
            weight.mul_(30)  # so that there is something to see
        streams = model.encode(batch)
        scores = subset_scores(model, *streams, model.fuse(*streams))
    split = shapley(scores)
    for clip, panel in enumerate(clip_panels(model, batch, limit=2)):
        highest = scores["both"][clip].topk(TAGS).indices.tolist()
        assert panel.caption.startswith(model.task.vocabulary.names[highest[0]])
        for row, tag in enumerate(highest):
            top = PICTURE + STRIP + SPECTRUM + LINE * (row + 1)
            for share, colour, y in ((split.video, VIDEO, 2), (split.audio, AUDIO, 9)):
                drawn = _columns(panel, 0, colour, slice(top + y, top + y + 6))
                length = round(max(-1.0, min(1.0, float(share[clip, tag]))) * (WIDTH // 4 - 6))
                middle = WIDTH * 3 // 4
                assert {middle, *drawn} == set(range(min(middle, middle + length), max(middle, middle + length) + 1))


def test_batches_of_features_have_no_clips_to_show(tiny_model: Callable, make_batch: Callable) -> None:
    batch = make_batch(2)
    assert clip_panels(tiny_model("fusion=late"), replace(batch, frames=batch.frames[:, :0]), limit=2) == []
