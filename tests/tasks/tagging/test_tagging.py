"""Tagging: free tags stand alone, exclusive groups share a softmax, the loss is what a hand computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mmattn.config.compose import build
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.tasks.interface import Task
from mmattn.tasks.tagging.tagging import Tagging
from mmattn.types import Fused

DIM = 16


def _fused(make_tokens: Callable, clips: int = 4) -> Fused:
    """Clip 0 has no picture, clip 1 no sound."""
    video, audio = make_tokens(clips, 3, seed=1), make_tokens(clips, 2, seed=2)
    first, second = (torch.arange(clips) == clip for clip in (0, 1))
    return Fused(video.without(first), audio.without(second))


def test_the_task_gives_scores_losses_and_gradients(
    tiny_config: Callable, vocabulary: TagVocabulary, make_batch: Callable, make_tokens: Callable
) -> None:
    task: Task = build(tiny_config()["task"], vocabulary=vocabulary)
    logits = task(_fused(make_tokens))
    scores = task.scores(logits)
    assert logits.shape == scores.shape == (4, len(vocabulary.names))
    assert ((scores >= 0) & (scores <= 1)).all()
    losses = task.loss(logits, make_batch(4))
    assert losses["loss"].ndim == 0
    losses["loss"].backward()
    unused = {name for name, p in task.named_parameters() if p.grad is None or float(p.grad.abs().max()) < 1e-7}
    assert not unused


def test_scores_of_a_group_sum_to_one_and_free_tags_stand_alone(vocabulary: TagVocabulary) -> None:
    task = Tagging(DIM, vocabulary)
    logits = torch.randn(6, 5) * 4
    scores = task.scores(logits)
    torch.testing.assert_close(scores[:, 2:].sum(dim=1), torch.ones(6))
    torch.testing.assert_close(scores[:, :2], 1 / (1 + torch.exp(-logits[:, :2])))
    louder = logits.clone()
    louder[:, 0] += 3
    assert torch.equal(task.scores(louder)[:, 1:], scores[:, 1:])


def test_scoring_leaves_the_logits_alone(vocabulary: TagVocabulary) -> None:
    logits = torch.randn(2, 5)
    before = logits.clone()
    Tagging(DIM, vocabulary).scores(logits)
    assert torch.equal(logits, before)


def _by_hand(logits: list[float], target: list[int], smoothing: float) -> float:
    """Free tags 0 and 1, the group 2-4: three questions, their mean. Smoothing gives half to either of two answers."""
    shares = [y * (1 - smoothing) + smoothing / 2 for y in target[:2]]
    terms = [math.log(1 + math.exp(-x)) + (1 - y) * x for x, y in zip(logits[:2], shares, strict=True)]
    total = math.log(sum(math.exp(x) for x in logits[2:]))
    surprise = [total - x for x in logits[2:]]
    right = target[2:].index(1)
    return (sum(terms) + (1 - smoothing) * surprise[right] + smoothing * sum(surprise) / 3) / 3


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_mean_over_questions(vocabulary: TagVocabulary, make_batch: Callable, smoothing: float) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.1, -0.4], [-0.2, 3.0, 0.0, 0.3, 1.0]])
    targets = [[1, 0, 0, 1, 0], [0, 1, 1, 0, 0]]
    batch = make_batch(2)
    assert batch.targets["tags"].tolist() == targets
    expected = sum(_by_hand(x, y, smoothing) for x, y in zip(logits.tolist(), targets, strict=True)) / 2
    loss = Tagging(DIM, vocabulary, label_smoothing=smoothing).loss(logits, batch)["loss"]
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_of_mixed_targets_is_the_mixture_of_the_losses(
    vocabulary: TagVocabulary, make_batch: Callable, share: float, smoothing: float
) -> None:
    task, batch = Tagging(DIM, vocabulary, label_smoothing=smoothing), make_batch(4)
    logits, one = torch.randn(4, 5), batch.targets["tags"]
    other = one.roll(1, 0)

    def loss(targets: torch.Tensor) -> float:
        batch.targets["tags"] = targets
        return float(task.loss(logits, batch)["loss"])

    expected = share * loss(one) + (1 - share) * loss(other)
    assert loss(share * one + (1 - share) * other) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "vocabulary",
    [TagVocabulary(("a", "b", "c")), TagVocabulary(("a", "b", "c"), ((0, 1, 2),)), TagVocabulary(("a",))],
    ids=["all free", "all exclusive", "one tag"],
)
def test_a_vocabulary_may_be_all_free_or_all_exclusive(vocabulary: TagVocabulary, make_batch: Callable) -> None:
    batch = make_batch(2)
    batch.targets["tags"] = torch.eye(3)[:2, : len(vocabulary.names)]
    task = Tagging(DIM, vocabulary)
    logits = torch.zeros(2, len(vocabulary.names))
    classes = 3 if vocabulary.exclusive else 2
    assert float(task.loss(logits, batch)["loss"]) == pytest.approx(math.log(classes))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_clip_that_is_not_real_is_no_part_of_the_loss(
    vocabulary: TagVocabulary, make_batch: Callable, smoothing: float
) -> None:
    task = Tagging(DIM, vocabulary, label_smoothing=smoothing)
    logits = torch.randn(2, 5, requires_grad=True)
    real = torch.tensor([True, False])
    mixed = task.loss(logits, replace(make_batch(2), real=real))["loss"]
    torch.testing.assert_close(mixed, task.loss(logits[:1], make_batch(1))["loss"])
    none = task.loss(logits, replace(make_batch(2), real=torch.zeros(2, dtype=torch.bool)))["loss"]
    assert float(none.detach()) == 0
    none.backward()  # every process of a run takes part in each step
    assert logits.grad is not None and not logits.grad.any()


def test_losses_are_computed_in_full_precision(vocabulary: TagVocabulary, make_batch: Callable) -> None:
    logits = torch.tensor([[30.0] * 5, [-30.0] * 5])
    task = Tagging(DIM, vocabulary)
    half = task.loss(logits.to(torch.bfloat16), make_batch(2))["loss"]
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(task.loss(logits, make_batch(2))["loss"]))
    assert task.scores(logits.to(torch.bfloat16)).dtype == torch.float32
