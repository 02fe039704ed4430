"""The gradient share against gradients written out by hand, under accumulation, and where an encoder learns nothing."""

from __future__ import annotations

from collections.abc import Callable

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.adamw import AdamWOneCycle
from mmattn.training.optim.gradients import GradientMeter, gradient_norm
from mmattn.types import Batch


def test_the_norm_is_that_of_all_gradients_as_one_vector() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    layers(torch.randn(5, 3)).square().sum().backward()
    everything = torch.cat([p.grad.flatten() for p in layers.parameters() if p.grad is not None]).double()
    assert float(gradient_norm(layers)) == pytest.approx(float(everything.square().sum().sqrt()), rel=1e-6)
    assert float(gradient_norm(nn.Linear(3, 4))) == 0


def test_shares_are_norms_over_their_sum_and_their_mean_is_kept(tiny_model: Callable) -> None:
    model, meter = tiny_model("fusion=late"), GradientMeter()
    assert meter.result() is None
    sides = []
    for scale in (1.0, 3.0):
        for encoder, value in ((model.visual, 0.1 * scale), (model.audio, 0.2)):
            for weight in encoder.parameters():
                weight.grad = torch.full_like(weight, value)
        sizes = [sum(w.numel() for w in encoder.parameters()) for encoder in (model.visual, model.audio)]
        video, audio = 0.1 * scale * sizes[0] ** 0.5, 0.2 * sizes[1] ** 0.5
        found = meter.update(model)
        assert found["share/audio"] == pytest.approx(audio / (audio + video), rel=1e-4)
        assert found["share/audio"] + found["share/video"] == pytest.approx(1)
        sides.append(audio / (audio + video))
    result = meter.result()
    assert result is not None and result["steps"] == 2
    assert result["audio"] == pytest.approx(sum(sides) / 2, rel=1e-4)
    again = GradientMeter()
    again.load_state_dict(meter.state_dict())
    assert again.result() == result
    meter.reset()
    assert meter.result() is None


def test_an_encoder_without_a_gradient_has_no_share_and_two_of_them_nothing_to_share(tiny_model: Callable) -> None:
    model, meter = tiny_model("fusion=late"), GradientMeter()
    model.zero_grad()
    assert all(value.isnan() for value in meter.update(model).values()) and meter.result() is None
    for weight in model.audio.parameters():
        weight.grad = torch.ones_like(weight)
    found = meter.update(model)
    assert (found["share/video"], found["share/audio"], found["norm/video"]) == (0.0, 1.0, 0.0)
    for weight in model.audio.parameters():
        weight.grad = torch.full_like(weight, float("inf"))
    assert all(value.isnan() for value in meter.update(model).values()), "a step that a loss scaler skips"
    result = meter.result()
    assert result is not None and result["steps"] == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_accumulated_batches_share_one_gradient(tiny_model: Callable, make_batch: Callable) -> None:
    """The share of a step over two batches is that of the gradient of their mean loss."""
    model = tiny_model("fusion=cross")
    batches = [make_batch(2, seed=seed) for seed in range(2)]
    model.train()
    loss = sum(model.task.loss(model(batch), batch)["loss"] for batch in batches) / 2
    grads = [torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True, allow_unused=True)
             for encoder in (model.visual, model.audio)]  # fmt: skip
    video, audio = (torch.cat([g.flatten() for g in grad if g is not None]).norm() for grad in grads)

    module = TrainingModule(model, AdamWOneCycle(lr=1e-3, weight_decay=0.0, warmup=0.0))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        gradient_clip_val=1e-3,  # far below the gradient: clipping must not matter
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader: DataLoader[Batch] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader)
    result = module.gradients.result()
    assert result is not None and result["steps"] == 1
    assert result["audio"] == pytest.approx(float(audio / (audio + video)), rel=1e-4)
    assert result["norm"] == pytest.approx({"video": float(video), "audio": float(audio)}, rel=1e-4)
