"""`mmattn evaluate` over several views of each clip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmattn.cli.main import main
from mmattn.weighting.clip_scores import load_clip_scores


def _evaluated(run: Path, out: Path, *more: str) -> tuple[dict, torch.Tensor]:
    assert main(["evaluate", f"run={run}", "split=test", f"out={out}.json", *more]) == 0
    scores = load_clip_scores(out.with_name(f"{out.name}-scores.safetensors"))
    return json.loads(out.with_suffix(".json").read_text()), scores.scores["both"]


def test_views_are_averaged_and_a_clip_as_long_as_the_span_has_one_place(trained: Path, tmp_path: Path) -> None:
    plain, one = _evaluated(trained, tmp_path / "one")
    spans, same = _evaluated(trained, tmp_path / "spans", "views.spans=2")
    torch.testing.assert_close(same, one)  # all clips are 3 s
    assert "views" not in plain and spans["views"] == {"spans": 2, "crops": 1, "flip": False}
    _, flipped = _evaluated(trained, tmp_path / "flipped", "views.flip=true")
    _, three = _evaluated(trained, tmp_path / "three", "views.crops=3")
    assert not torch.allclose(flipped, one) and not torch.allclose(three, one)


def test_its_file_says_what_was_averaged(trained: Path) -> None:
    out = trained / "evaluation-test-views1x1-flip.json"
    assert main(["evaluate", f"run={trained}", "split=test", "views.flip=true"]) == 0
    assert out.is_file()
    for path in trained.glob("evaluation-test-views1x1-flip*"):
        path.unlink()


@pytest.mark.parametrize("wrong", ["views.spans=0", "views.crops=4"])
def test_views_that_make_no_sense_are_one_line(wrong: str, trained: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", f"run={trained}", wrong]) == 2
    assert wrong in capsys.readouterr().err
