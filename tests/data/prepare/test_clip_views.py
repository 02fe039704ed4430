"""A data set looked at in other places of its clips than where it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmattn.data.load.cache import ClipCache
from mmattn.data.load.dataset import ClipDataset, Span, missing_clip
from mmattn.data.load.reader import ClipReader
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.clips import ClipSpec
from mmattn.data.prepare.views import Views, clip_views
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video

SPEC = ClipSpec(seconds=1.0, fps=4.0, height=8, width=8, mels=8)


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 s that grow brighter: at t s by 40 t."""
    path = tmp_path_factory.mktemp("ramp") / "ramp.mp4"
    shades = (40 * (np.arange(80) + 0.5) / 16).astype(np.uint8)
    write_video(path, np.broadcast_to(shades[:, None, None, None], (80, 32, 32, 3)).copy(), 16)
    return path


@pytest.mark.parametrize("span", ["first", "center"])
@pytest.mark.parametrize(("spans", "starts"), [(2, [0.0, 4.0]), (3, [2.0, 0.0, 4.0]), (1, [None])])
def test_spans_lie_evenly_whatever_training_takes(
    ramp: Path, span: Span, spans: int, starts: list[float | None]
) -> None:
    brightness = []
    for look in clip_views(spans, Views(), SPEC):
        cache = ClipCache(1, SPEC.finish(missing_clip(SPEC)), 0)
        rows = [Row(id="ramp", path=ramp)]
        reader = ClipReader(isolated=False)
        dataset = ClipDataset(rows, SPEC, TagVocabulary(()), reader, cache, span=span, view=look)
        brightness.append(float(dataset[0, 0].sample.frames.float().mean()))
    expected = [(0.0 if span == "first" else 2.0) if start is None else start for start in starts]
    assert brightness == pytest.approx([40 * (start + 0.5) for start in expected], abs=4)


def test_views_of_spans_are_all_there_and_none_is_refused() -> None:
    found = clip_views(3, Views(crops=3, flip=True), SPEC)
    assert len({(look.at, look.view) for look in found}) == 18
    with pytest.raises(UsageError, match=r"views\.spans=0"):
        clip_views(0, Views(), SPEC)
