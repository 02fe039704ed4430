"""Resampled scores against average precision of the resample written out, and intervals that cover the truth."""

from __future__ import annotations

import pytest
import torch

from mmattn.metrics import bootstrap
from mmattn.metrics.bootstrap import interval, resampled_average_precision, resamples
from mmattn.metrics.tags import average_precision


def test_each_resample_scores_as_the_clips_it_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties among scores and clips drawn several times included; the third tag has no clip at all."""
    torch.manual_seed(0)
    scores = torch.rand(23, 3).mul(6).round() / 6
    targets = (torch.rand(23, 3) < torch.tensor([0.4, 0.0, 0.0])).float()
    targets[3, 1] = 1.0  # one clip alone, which a third of the resamples miss
    counts = resamples(23, 40)
    found = resampled_average_precision(scores, targets, counts)
    for row, drawn in zip(found, counts, strict=True):
        again = torch.repeat_interleave(torch.arange(23), drawn.long())
        expected = average_precision(scores[again], targets[again])
        torch.testing.assert_close(row.float(), expected, rtol=0, atol=1e-6, equal_nan=True)
    assert found[:, 2].isnan().all() and found[:, 1].isnan().any() and not found[:, 1].isnan().all()
    monkeypatch.setattr(bootstrap, "CHUNK", 100)  # in several steps: the same
    assert torch.equal(resamples(23, 40), counts)
    torch.testing.assert_close(
        resampled_average_precision(scores, targets, counts), found, rtol=0, atol=1e-12, equal_nan=True
    )


def test_a_resample_has_as_many_clips_and_all_differ() -> None:
    counts = resamples(50, 200)
    assert (counts.sum(dim=1) == 50).all()
    assert len(counts.unique(dim=0)) == 200
    assert torch.equal(counts, resamples(50, 200)) and not torch.equal(counts, resamples(50, 200, seed=1))
    assert 0.3 < float((counts == 0).float().mean()) < 0.43  # 1 / e


def test_the_interval_is_the_middle_and_leaves_out_what_is_undefined() -> None:
    values = torch.arange(1001, dtype=torch.float64)
    assert interval(values) == pytest.approx([25.0, 975.0])
    assert interval(torch.cat([values, torch.full((300,), torch.nan)])) == pytest.approx([25.0, 975.0])
    assert all(edge != edge for edge in interval(torch.full((3,), torch.nan, dtype=torch.float64)))


def test_intervals_cover_the_score_of_the_population() -> None:
    """Of 120 samples about 95 % of the intervals hold the population's average precision (here at least 85 %)."""
    generator = torch.Generator().manual_seed(0)

    def draw(clips: int) -> tuple[torch.Tensor, torch.Tensor]:
        targets = (torch.rand(clips, 1, generator=generator) < 0.4).float()
        return targets + torch.randn(clips, 1, generator=generator), targets

    truth = float(average_precision(*draw(200_000)))
    covered = 0
    for seed in range(120):
        scores, targets = draw(100)
        low, high = interval(resampled_average_precision(scores, targets, resamples(100, 200, seed))[:, 0])
        covered += low <= truth <= high
    assert 0.85 * 120 <= covered < 120
