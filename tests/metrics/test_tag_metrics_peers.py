"""AUROC, d', F1, top-k and calibration error equal scikit-learn's and torchmetrics' on the same scores, ties too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as peer
import torch
from scipy.stats import norm
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from mmattn.metrics.calibration import (
    best_f1_thresholds,
    calibration_errors,
    expected_calibration_error,
    precision_thresholds,
)
from mmattn.metrics.summary import summary
from mmattn.metrics.tags import auroc, average_precision, d_prime, decisions, f1, group_accuracy

CLIPS, TAGS = 60, 7


def _made(ties: bool, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(CLIPS, TAGS, generator=generator) < torch.linspace(0.05, 0.6, TAGS)).float()
    scores = torch.sigmoid(torch.randn(CLIPS, TAGS, generator=generator) + targets)
    targets[0] = 1 - targets[1]  # each tag is there and is not
    return ((scores * 6).round() / 6 if ties else scores), targets


@pytest.mark.parametrize("ties", [False, True])
def test_ranking_scores_are_scikit_learns(ties: bool) -> None:
    scores, targets = _made(ties)
    area = auroc(scores, targets)
    expected = peer.roc_auc_score(targets.numpy(), scores.numpy(), average=None)
    np.testing.assert_allclose(area.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(d_prime(area).numpy(), math.sqrt(2) * norm.ppf(expected), atol=1e-5)
    np.testing.assert_allclose(
        average_precision(scores, targets).numpy(),
        peer.average_precision_score(targets.numpy(), scores.numpy(), average=None),
        atol=1e-6,
    )


def test_areas_that_are_known() -> None:
    scores, targets = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0, 1], [0, 0]])
    assert auroc(scores, targets).tolist() == [1.0, 0.0]
    assert auroc(torch.full((4, 1), 0.3), torch.tensor([[1.0], [0], [0], [1]])).tolist() == [0.5]
    assert auroc(torch.rand(3, 2), torch.tensor([[1.0, 0]]).expand(3, 2)).isnan().all()
    assert d_prime(torch.tensor([0.5, 1.0, 0.0])).tolist() == [0.0, math.inf, -math.inf]


@pytest.mark.parametrize("ties", [False, True])
def test_f1_is_scikit_learns_on_what_is_listed(ties: bool) -> None:
    scores, targets = _made(ties)
    thresholds = torch.linspace(0.2, 0.8, TAGS)
    chosen = decisions(scores, thresholds, {"group": (2, 4, 5)})
    assert (chosen[:, [2, 4, 5]].sum(dim=1) == 1).all()
    assert torch.equal(chosen[:, 0], scores[:, 0] >= thresholds[0])
    per_tag, micro = f1(chosen, targets)
    truth = targets.numpy().astype(int)
    np.testing.assert_allclose(per_tag.numpy(), peer.f1_score(truth, chosen.numpy(), average=None, zero_division=0.0))
    assert micro == pytest.approx(peer.f1_score(truth, chosen.numpy(), average="micro"))


def test_a_tag_that_no_clip_has_counts_for_micro_alone() -> None:
    chosen, targets = torch.tensor([[True, True], [False, False]]), torch.tensor([[1.0, 0], [0, 0]])
    per_tag, micro = f1(chosen, targets)
    assert per_tag[0] == 1 and per_tag[1].isnan()
    assert micro == pytest.approx(2 / 3)
    assert math.isnan(f1(torch.zeros(2, 1, dtype=torch.bool), torch.zeros(2, 1))[1])


@pytest.mark.parametrize("among", [1, 2, 5])
def test_accuracy_among_the_highest_is_scikit_learns(among: int) -> None:
    scores = torch.rand(50, 8)
    answer = torch.randint(8, (50,))
    targets = torch.nn.functional.one_hot(answer, 8).float()
    found = group_accuracy(scores, targets, {"class": tuple(range(8))}, among)["class"]
    expected = peer.top_k_accuracy_score(answer.numpy(), scores.numpy(), k=among, labels=np.arange(8))
    assert found == pytest.approx(expected)


def test_equal_scores_do_not_make_all_answers_right() -> None:
    targets = torch.eye(6)
    assert group_accuracy(torch.full((6, 6), 0.2), targets, {"class": tuple(range(6))}, 2)["class"] == pytest.approx(
        1 / 3
    )


def test_calibration_errors_are_torchmetrics() -> None:
    scores, targets = _made(ties=False)
    for tag in range(TAGS):
        expected = binary_calibration_error(scores[:, tag].contiguous(), targets[:, tag].long(), n_bins=15, norm="l1")
        found = expected_calibration_error(scores[:, tag], targets[:, tag] > 0)
        assert found == pytest.approx(float(expected), abs=1e-6)
    shares, answer = torch.softmax(torch.randn(CLIPS, 4) * 2, dim=1), torch.randint(4, (CLIPS,))
    expected = multiclass_calibration_error(shares, answer, num_classes=4, n_bins=15, norm="l1")
    one_hot = torch.nn.functional.one_hot(answer, 4).float()
    found = calibration_errors(shares, one_hot, list("abcd"), {"class": (0, 1, 2, 3)})
    assert found == {"class": pytest.approx(float(expected), abs=1e-6)}


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    scores = torch.tensor([0.0, 0.0, 1.0, 1.0] + [0.75] * 4)
    right = torch.tensor([False, False, True, True, True, True, True, False])
    assert expected_calibration_error(scores, right) == pytest.approx(0)
    assert expected_calibration_error(scores, ~right) == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert math.isnan(expected_calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))


@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_gives_a_higher_f1(ties: bool) -> None:
    scores, targets = _made(ties)
    thresholds = best_f1_thresholds(scores, targets)
    reached, _ = f1(decisions(scores, thresholds, {}), targets)
    for tag in range(TAGS):
        truth = targets[:, tag].numpy()
        precision, recall, _ = peer.precision_recall_curve(truth, scores[:, tag].numpy())
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert float(reached[tag]) == pytest.approx(best)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.9, 1.0])
def test_a_wanted_precision_is_reached_with_the_most_recall(ties: bool, wanted: float) -> None:
    scores, targets = _made(ties)
    thresholds = precision_thresholds(scores, targets, wanted)
    for tag in range(TAGS):
        score, truth = scores[:, tag].double(), targets[:, tag] > 0
        cuts = [cut for cut in score.unique() if float(truth[score >= cut].double().mean()) >= wanted]
        if not cuts:
            assert thresholds[tag].isnan()
            continue
        listed = score >= thresholds[tag]
        assert torch.equal(listed, score >= min(cuts))


def test_thresholds_lie_between_scores() -> None:
    scores = torch.tensor([[0.9, 0.4], [0.7, 0.4], [0.2, 0.4], [0.1, 0.4]])
    targets = torch.tensor([[1.0, 1], [1, 0], [0, 1], [0, 0]])
    assert best_f1_thresholds(scores, targets).tolist() == pytest.approx([0.45, 0.2])
    assert best_f1_thresholds(scores, torch.zeros(4, 2)).isnan().all()
    assert precision_thresholds(scores, torch.zeros(4, 2), 0.5).isnan().all()


def test_a_summary_is_of_what_predict_would_list() -> None:
    scores, targets = _made(ties=False)
    names, groups = list("abcdefg"), {"group": (1, 2)}
    found = summary(scores, targets, names, groups, {"a": 0.3})
    assert found["f1"]["thresholds"] == {"a": 0.3} | dict.fromkeys("defg", 0.5)
    assert found["f1_at_half"]["thresholds"]["a"] == 0.5
    assert found["auroc"] == pytest.approx(float(auroc(scores, targets).mean()))
    assert found["d_prime"] == pytest.approx(math.sqrt(2) * norm.ppf(found["auroc"]), abs=1e-5)
    assert found["top5_accuracy"] == {}
    assert found["calibration_error_by_question"].keys() == {*"adefg", "group"}
