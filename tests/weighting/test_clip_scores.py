"""Per-clip scores come back as they were written, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmattn.errors import UsageError
from mmattn.metrics.tags import average_precision
from mmattn.weighting.causal import SUBSETS
from mmattn.weighting.clip_scores import ClipScores, load_clip_scores


def made() -> ClipScores:
    scores = {subset: torch.rand(5, 3) for subset in SUBSETS}
    names = ("a", "<b>", "name \udcff")  # the last one is no UTF-8
    return ClipScores(tuple("edcba"), names, {"a": "sound"}, {"g": (0, 1)}, (torch.rand(5, 3) > 0.5).float(), scores)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    scores = made()
    scores.save(tmp_path / "s.safetensors")
    again = load_clip_scores(tmp_path / "s.safetensors")
    assert (again.ids, again.tags, again.families, again.groups) == (
        scores.ids, scores.tags, scores.families, scores.groups)  # fmt: skip
    assert torch.equal(again.targets, scores.targets)
    assert all(torch.equal(again.scores[subset], scores.scores[subset]) for subset in SUBSETS)
    whole = average_precision(scores.scores["both"], scores.targets)
    torch.testing.assert_close(average_precision(again.scores["both"], again.targets), whole, equal_nan=True)


@pytest.mark.parametrize("damage", ["absent", "text", "cut", "shape", "group"])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path, scores = tmp_path / "s.safetensors", made()
    if damage == "shape":
        scores = ClipScores(scores.ids[:3], scores.tags, {}, {}, scores.targets, scores.scores)
    if damage == "group":
        scores = ClipScores(scores.ids, scores.tags, {}, {"g": (7,)}, scores.targets, scores.scores)
    scores.save(path)
    if damage == "text":
        path.write_text("{}")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if damage == "absent":
        path.unlink()
    with pytest.raises(UsageError, match="not the scores of an evaluation") as caught:
        load_clip_scores(path)
    assert "\n" not in str(caught.value)
