"""Average precision by its definition, with ties; what has no answer stays out of every mean."""

from __future__ import annotations

import math

import pytest
import torch

from mmattn.metrics.tags import average_precision, by_family, group_accuracy, mean_defined


def _by_definition(scores: list[float], targets: list[int]) -> float:
    """Sum over thresholds of (recall gained) x (precision there): the step-wise area, ties entering together."""
    total, result, recall = sum(targets), 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [target for score, target in zip(scores, targets, strict=True) if score >= threshold]
        result += (sum(chosen) / total - recall) * (sum(chosen) / len(chosen))
        recall = sum(chosen) / total
    return result


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_its_definition(ties: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 6, generator=generator)
    scores = (scores * 5).round() / 5 if ties else scores
    targets = (torch.rand(40, 6, generator=generator) < 0.3).float()
    expected = [_by_definition(scores[:, k].tolist(), targets[:, k].int().tolist()) for k in range(6)]
    torch.testing.assert_close(average_precision(scores, targets), torch.tensor(expected), rtol=0, atol=1e-6)


def test_known_answers() -> None:
    """Positives at ranks 1 and 3 of 4: (1/1 + 2/3) / 2. The example of scikit-learn's documentation: 0.83."""
    found = average_precision(torch.tensor([[0.1], [0.4], [0.35], [0.8]]), torch.tensor([[0.0], [0], [1], [1]]))
    assert found.tolist() == pytest.approx([(1 + 2 / 3) / 2])
    perfect = average_precision(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.eye(2))
    assert perfect.tolist() == [1.0, 1.0]


def test_constant_scores_give_the_prevalence() -> None:
    targets = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 0], [0, 0]])
    assert average_precision(torch.full((5, 2), 0.3), targets).tolist() == pytest.approx([0.4, 0.2])


def test_a_tag_without_a_positive_is_undefined_and_left_out() -> None:
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    found = average_precision(torch.rand(2, 3), targets)
    assert found.isnan().tolist() == [False, True, False]
    assert found[2] == 1
    assert average_precision(torch.rand(2, 2), torch.zeros(2, 2)).isnan().all()


def test_one_tag_alone_is_enough() -> None:
    """A data set of one tag, or a validation split that happens to show only one."""
    found = average_precision(torch.tensor([[0.9], [0.1], [0.5]]), torch.tensor([[1.0], [0], [0]]))
    assert found.tolist() == [1.0]
    found = average_precision(torch.tensor([[0.9, 0.2], [0.1, 0.3]]), torch.tensor([[1.0, 0], [0, 0]]))
    assert found[0] == 1
    assert found[1].isnan()


def test_the_order_alone_counts_however_close_the_scores() -> None:
    """Scores crowd near 1 and 0 in a confident model."""
    scores = torch.tensor([[1.0], [1 - 1e-7], [1e-30], [0.0]])
    found = average_precision(scores, torch.tensor([[0.0], [1], [1], [0]]))
    assert found.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_means_leave_out_what_is_undefined() -> None:
    assert mean_defined([1.0, math.nan, 0.0]) == 0.5
    assert math.isnan(mean_defined([math.nan]))
    assert math.isnan(mean_defined([]))
    per_tag = {"beep": 0.5, "red": 1.0, "blue": math.nan, "odd": 0.1}
    assert by_family(per_tag, {"beep": "audio", "red": "video", "blue": "video"}) == {"audio": 0.5, "video": 1.0}


def test_group_accuracy_counts_the_highest_tag_of_the_group() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.8], [0.9, 0.6, 0.3], [0.9, 0.2, 0.4], [0.9, 0.7, 0.1]])
    targets = torch.tensor([[1.0, 0, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0]])
    assert group_accuracy(scores, targets, {"word": (1, 2)}) == {"word": 0.75}
    assert group_accuracy(scores, targets, {}) == {}


def test_a_clip_without_a_tag_of_the_group_has_no_right_answer() -> None:
    scores, targets = torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([[0.0, 0], [0, 1]])
    assert group_accuracy(scores, targets, {"word": (0, 1)}) == {"word": 0.0}
    assert math.isnan(group_accuracy(scores[:1], targets[:1], {"word": (0, 1)})["word"])
