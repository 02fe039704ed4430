"""Losses of free tags against float64 formulas written from the papers; class weights against scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from mmattn.config.compose import build, compose, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError
from mmattn.tasks.tagging.class_weights import answer_weights
from mmattn.tasks.tagging.losses import Asymmetric, CrossEntropy, Focal, TagLoss
from mmattn.tasks.tagging.tagging import Tagging


def _focal(x: float, y: int, gamma: float, alpha: float | None) -> float:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t) (Lin et al. 2017, eq. 5)."""
    p = 1 / (1 + math.exp(-x))
    p_t = p if y else 1 - p
    alpha_t = 1.0 if alpha is None else (alpha if y else 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


def _asymmetric(x: float, y: int, positive: float, negative: float, margin: float) -> float:
    """L+ = -(1 - p)^g+ log(p), L- = -(p_m)^g- log(1 - p_m), p_m = max(p - m, 0) (Ridnik et al. 2021, eq. 4 to 6)."""
    p = 1 / (1 + math.exp(-x))
    shifted = max(p - margin, 0.0)
    return -((1 - p) ** positive) * math.log(p) if y else -(shifted**negative) * math.log(1 - shifted)


CASES: list[tuple[TagLoss, Callable[[float, int], float]]] = [
    (CrossEntropy(), lambda x, y: _focal(x, y, 0.0, None)),
    *((Focal(g, a), lambda x, y, g=g, a=a: _focal(x, y, g, a)) for g in (0.0, 0.5, 2.0) for a in (None, 0.25)),
    *(
        (Asymmetric(*how), lambda x, y, how=how: _asymmetric(x, y, *how))
        for how in ((0.0, 4.0, 0.05), (1.0, 4.0, 0.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.2), (2.0, 0.0, 0.05))
    ),
]
LOGITS = [-20.0, -5.0, -2.5, -0.3, 0.0, 0.7, 3.0, 12.0]


@pytest.mark.parametrize(
    ("loss", "formula"), CASES, ids=lambda case: str(case)[:60] if isinstance(case, TagLoss) else ""
)
def test_it_is_the_formula_of_the_paper(loss: TagLoss, formula: Callable[[float, int], float]) -> None:
    logits = torch.tensor([LOGITS], dtype=torch.float64)
    for found, y in zip(loss(logits), (1, 0), strict=True):
        expected = torch.tensor([[formula(x, y) for x in LOGITS]], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)
    for found, exact in zip(loss(logits.float()), loss(logits), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [loss for loss, _ in CASES], ids=str)
def test_gradients_are_those_of_the_formula_and_finite_far_out(loss: TagLoss) -> None:
    logits = torch.tensor([[-6.0, -1.7, 0.2, 2.0, 5.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x), (logits,))
    far = torch.tensor([[-300.0, -90.0, -30.0, 0.0, 30.0, 90.0, 300.0]], requires_grad=True)
    costs = torch.cat(loss(far))
    assert costs.isfinite().all() and (costs >= 0).all()
    costs.sum().backward()
    assert far.grad is not None and far.grad.isfinite().all()


@pytest.mark.parametrize("name", group_choices("tag_loss"))
def test_every_choice_is_built_with_the_papers_parameters(name: str) -> None:
    loss = build(compose("train", [f"tag_loss={name}", "data.root=."])["tag_loss"])
    assert loss == {"bce": CrossEntropy(), "focal": Focal(2.0, 0.25), "asymmetric": Asymmetric(0.0, 4.0, 0.05)}[name]


@pytest.mark.parametrize(
    "make",
    [lambda: Focal(gamma=-1), lambda: Focal(alpha=1.5), lambda: Asymmetric(margin=1.0), lambda: Asymmetric(-1.0)],
)
def test_parameters_that_make_no_sense_are_refused(make: Callable) -> None:
    with pytest.raises(UsageError, match="expected"):
        make()


def test_weights_are_scaled_to_a_mean_of_one_over_clips() -> None:
    counts = [1, 9, 90, 900]
    for kind in ("inverse", "effective"):
        weights = answer_weights(counts, kind, 0.99)
        assert float((weights.double() * torch.tensor(counts)).sum()) / 1000 == pytest.approx(1)
        assert (weights[:-1] > weights[1:]).all()
    assert answer_weights(counts, "none", 0.99).tolist() == [1.0] * 4
    assert answer_weights([5, 0], "inverse", 0.99).tolist() == [1.0, 1.0]


def test_inverse_is_balanced_as_scikit_learn_has_it() -> None:
    clips = np.repeat([0, 1, 2], [3, 40, 57])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=clips)
    assert answer_weights([3, 40, 57], "inverse", 0.9).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_effective_is_the_inverse_of_the_effective_number(beta: float) -> None:
    """E_n = (1 - beta^n) / (1 - beta) (Cui et al. 2019, eq. 2), up to the scale."""
    counts = [2, 30, 1000]
    weights = answer_weights(counts, "effective", beta).double()
    raw = torch.tensor([(1 - beta) / (1 - beta**n) for n in counts], dtype=torch.float64)
    torch.testing.assert_close(weights / weights[0], raw / raw[0], rtol=1e-6, atol=0)


ROWS = [("a", "g/x"), ("a", "b", "g/y"), ("g/x",), ("g/x",)]


def _vocabulary() -> TagVocabulary:
    return TagVocabulary.from_rows([Row(id=str(i), path=str(i), tags=tags) for i, tags in enumerate(ROWS)])


def test_the_vocabulary_counts_training_clips() -> None:
    vocabulary = _vocabulary()
    assert dict(zip(vocabulary.names, vocabulary.counts, strict=True)) == {"a": 2, "b": 1, "g/x": 3, "g/y": 1}
    assert vocabulary.clips == 4
    record = vocabulary.to_dict()
    assert TagVocabulary.from_dict(record) == vocabulary
    old = {name: value for name, value in record.items() if name not in ("counts", "clips")}
    assert TagVocabulary.from_dict(old).counts == ()
    with pytest.raises(ValueError, match="counts"):
        TagVocabulary.from_dict(record | {"counts": [1]})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(), Asymmetric()], ids=str)
def test_the_loss_of_a_task_by_hand(loss: TagLoss, kind: str, smoothing: float, make_batch: Callable) -> None:
    vocabulary = _vocabulary()
    task = Tagging(4, vocabulary, smoothing, loss, kind, 0.9)  # type: ignore[arg-type]
    batch, logits = make_batch(4), torch.randn(4, 4)
    batch.targets["tags"] = torch.stack([vocabulary.encode(tags) for tags in ROWS])
    formula = next(formula for known, formula in CASES if known == loss)

    def weights(*counts: int) -> list[float]:
        return answer_weights(counts, kind, 0.9).tolist()  # type: ignore[arg-type]

    terms = []
    for tag, count in ((0, 2), (1, 1)):
        (there, absent), total = weights(count, 4 - count), 0.0
        for x, y in zip(logits[:, tag].tolist(), batch.targets["tags"][:, tag].tolist(), strict=True):
            share = y * (1 - smoothing) + smoothing / 2
            total += there * share * formula(x, 1) + absent * (1 - share) * formula(x, 0)
        terms.append(total / 4)
    of_group, total = weights(3, 1), 0.0
    for xs, ys in zip(logits[:, 2:].tolist(), batch.targets["tags"][:, 2:].tolist(), strict=True):
        whole = math.log(sum(map(math.exp, xs)))
        total += sum(
            w * (y * (1 - smoothing) + smoothing / 2) * (whole - x) for w, x, y in zip(of_group, xs, ys, strict=True)
        )
    terms.append(total / 4)
    assert float(task.loss(logits, batch)["loss"]) == pytest.approx(sum(terms) / 3, rel=1e-5)


def test_weights_are_of_training_and_not_of_the_model() -> None:
    saved = Tagging(4, _vocabulary(), class_weights="inverse").state_dict()
    assert not {"present_weights", "absent_weights"} & saved.keys()


def test_what_cannot_be_trained_is_refused() -> None:
    uncounted = TagVocabulary(("a", "b"))
    for settings, says in (
        ({"class_weights": "inverse"}, "counts"),
        ({"class_weights": "rare"}, "expected none, inverse, effective"),
        ({"effective_beta": 1.0}, "effective_beta"),
    ):
        with pytest.raises(UsageError, match=says):
            Tagging(4, uncounted, **settings)
    with pytest.raises(UsageError, match="tag_loss"):
        Tagging(4, TagVocabulary(("a", "b"), ((0, 1),)), loss=Focal())
