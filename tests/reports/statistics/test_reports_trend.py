"""The picture's share over noise: a slope with its test, from evaluations, and from clips where these are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from report_runs import evaluation, make_run, split

from mmattn.reports.collect.groups import Group, group_runs
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.statistics.trend import trends
from mmattn.weighting.clip_scores import ClipScores

LOUDNESSES = (-10.0, -5.0, 0.0, 5.0, 10.0)


def noisy(folder: Path, share_at: Callable[[float], float], seeds: int) -> list[Group]:
    """A row whose picture has so large a share of a gain of 0.4 at each loudness (dB), but for a deviation by seed."""
    runs = []
    for seed in range(seeds):
        run = make_run(folder / str(seed))
        (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"seed: {seed}\n")
        for i, snr in enumerate(LOUDNESSES):
            own = 0.4 * (share_at(snr) + 0.01 * ((seed * 7 + i * 3) % 5 - 2))
            record = evaluation() | {"shapley": split(0.3, 0.3 + own, 0.7 - own, 0.7)}
            (run / f"evaluation-val-babble{snr:+g}dB.json").write_text(json.dumps(record))
        runs.append(run)
    return group_runs(collect_runs(runs))


def test_a_share_that_rises_with_noise_is_shown_to(tmp_path: Path) -> None:
    (found,) = trends(noisy(tmp_path, lambda snr: 0.5 - 0.02 * snr, 4))
    assert found.words == "rises" and found.slope == pytest.approx(0.2, abs=0.02)
    assert found.low is not None and found.high is not None and found.low < 0.2 < found.high and found.low > 0
    (found,) = trends(noisy(tmp_path / "b", lambda snr: 0.5 + 0.02 * snr, 4))
    assert found.words == "falls" and found.slope < 0


def test_no_trend_is_made_of_chance_and_two_seeds_are_not_tested(tmp_path: Path) -> None:
    (found,) = trends(noisy(tmp_path / "a", lambda snr: 0.5, 4))
    assert found.words == "no trend shown" and found.p is not None and found.p > 0.05
    (found,) = trends(noisy(tmp_path / "b", lambda snr: 0.5 - 0.02 * snr, 2))
    assert found.words.startswith("not tested") and found.p is None and found.slope > 0


def test_clips_widen_the_interval_where_they_are_kept(tmp_path: Path) -> None:
    groups = noisy(tmp_path, lambda snr: 0.5 - 0.02 * snr, 3)
    for run in groups[0].runs:
        targets = (torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) < 0.5).float()
        for i, snr in enumerate(LOUDNESSES):
            noise = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(i))
            seen, heard = (1.5 * (2 * targets - 1), (0.5 + 0.02 * snr) * 2 * (2 * targets - 1))
            scores = {"none": torch.full((40, 2), 0.5), "video": torch.sigmoid(seen + noise[0])}
            scores |= {"audio": torch.sigmoid(heard + noise[1]), "both": torch.sigmoid(seen + heard + noise.sum(dim=0))}
            found = ClipScores(tuple(map(str, range(40))), ("a", "b"), {}, {}, targets, scores)
            found.save(run.path / f"evaluation-val-babble{snr:+g}dB-scores.safetensors")
    (found,) = trends(groups)
    assert found.low is not None and found.high is not None and found.low < found.slope < found.high
    assert found.high - found.low > 0.001, "all seeds are alike: what is not known is due to the clips"
