"""An evaluation over several views is that of the mean scores of each clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mmattn.weighting.causal import SUBSETS
from mmattn.weighting.evaluation import Evaluation


def test_scores_are_means_by_clip(tiny_model: Callable, make_batch: Callable) -> None:
    model = tiny_model()
    views = [Evaluation(model.task.vocabulary, permutations=True) for _ in range(3)]
    for seed, view in enumerate(views):
        view.update(model, make_batch(6, seed=seed))
    mean = Evaluation.mean(views)
    for subset in SUBSETS:
        expected = torch.stack([view.clip_scores().scores[subset] for view in views]).mean(dim=0)
        torch.testing.assert_close(mean.clip_scores().scores[subset], expected)
    permutation = mean.result()["permutation"]["audio"]["value"]
    assert permutation is not None
    alone = [view.result()["metrics"] for view in views]
    assert mean.result()["metrics"]["ap"] not in [metrics["ap"] for metrics in alone]
    same = Evaluation.mean([views[0], views[0]]).result()
    assert same["metrics"]["ap"] == pytest.approx(alone[0]["ap"])


def test_a_view_that_could_not_be_read_costs_itself(tiny_model: Callable, make_batch: Callable) -> None:
    model, batch = tiny_model(), make_batch(4)
    whole, part = Evaluation(model.task.vocabulary), Evaluation(model.task.vocabulary)
    whole.update(model, batch)
    part.update(model, replace(batch, real=torch.tensor([True, True, False, True])))
    assert Evaluation.mean([part, whole]).result()["clips"] == 4
