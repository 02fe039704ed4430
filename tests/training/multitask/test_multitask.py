"""Losses of several tasks become one, and captions are rewarded for what they score."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from caption_models import CAPTIONS, batch_of, fused_clips, small_captioner
from mmattn.errors import UsageError
from mmattn.training.multitask.uncertainty import UncertaintyWeights
from mmattn.training.multitask.weights import FixedWeights
from mmattn.training.optim.self_critical import SelfCritical


def test_fixed_weights():
    total, log = FixedWeights(tags=2.0, captions=0.5)({"tags": torch.tensor(3.0), "captions": torch.tensor(4.0)})
    assert float(total) == 8 and log == {}
    assert float(FixedWeights()({"captions": torch.tensor(4.0)})[0]) == 4
    for wrong in ({"tags": -1.0}, {"tags": 0.0, "captions": 0.0}):
        with pytest.raises(UsageError, match="multitask"):
            FixedWeights(**wrong)


def test_uncertainty_weights_end_where_the_paper_says():
    """The minimum over s of L exp(-s) + s / 2 is at exp(-s) = 1 / (2 L)."""
    weights, losses = UncertaintyWeights(), {"tags": torch.tensor(0.2), "captions": torch.tensor(3.0)}
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=200)

    def closure():
        optimizer.zero_grad()
        total, _ = weights(losses)
        total.backward()
        return total

    optimizer.step(closure)
    _, log = weights(losses)
    for task, loss in losses.items():
        assert float(log[f"weight_{task}"]) == pytest.approx(1 / (2 * float(loss)), rel=1e-3)
    alone, _ = weights({"tags": torch.tensor(1.0)})
    grads = torch.autograd.grad(alone, list(weights.parameters()))
    assert all(grad.isfinite() for grad in grads), "the other task's weight is part of the graph"


def test_the_reward_is_cider_and_the_gradient_is_the_policys():
    model, fused = small_captioner(label_smoothing=0.0), fused_clips(4)
    batch = batch_of([(text,) for text in CAPTIONS[:4]], [True, True, True, False])
    critic = SelfCritical(0, 1.0)
    critic.prepare([[text] for text in CAPTIONS])
    loss, reward = critic.loss(model, fused, batch, seed=3)
    loss.backward()
    found = model.embed_tokens.weight.grad.clone()  # type: ignore[union-attr]
    # By hand: the same draw, its reward over greedy's, times the gradient of its log probability.
    model.zero_grad()
    sample = replace(model.decoding, method="sample", top_p=1.0, seed=3)
    drawn = model.generate(fused, sample, batch.ids)
    greedy = model.generate(fused, replace(model.decoding, method="greedy"))
    better = (critic.rewards(model, drawn, batch) - critic.rewards(model, greedy, batch))[:3]
    said, _ = model.log_probs(fused, drawn)
    by_hand = -sum(better[i] * said[i].sum() for i in range(3)) / int(drawn.keep[:3].sum())
    by_hand.backward()
    assert float(loss.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    torch.testing.assert_close(found, model.embed_tokens.weight.grad)
    assert float(reward) == pytest.approx(float(critic.rewards(model, greedy, batch)[:3].mean()))


@pytest.mark.parametrize("wrong", [{"from_epoch": -1}, {"weight": 0.0}, {"temperature": 0.0}], ids=str)
def test_wrong_settings_are_named(wrong: dict):
    with pytest.raises(UsageError, match="self_critical"):
        SelfCritical(**{"from_epoch": 1, "weight": 0.5, "temperature": 1.0} | wrong)
