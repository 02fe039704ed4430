"""Each regulariser is 0 at the attention it asks for, and descending it gets there."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmattn.attention.regularisers import Entropy, GroupSparsity, Hoyer, Price, Regulariser
from mmattn.config.compose import Config, build, compose, group_choices
from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.types import LayerStats

B, H, LQ = 2, 2, 6
KEEP = torch.ones(B, LQ, dtype=torch.bool)
KEEP[0, 4:] = False
BOTH = {"video": torch.tensor([0.3, 0.6]), "audio": torch.tensor([0.7, 0.4])}


def _layer(video: Tensor, entropy: Tensor | None = None, prior: dict[str, Tensor] | None = None) -> LayerStats:
    """Mass on video (B, H, Lq); the rest is on audio."""
    return LayerStats("x.0", "video", KEEP, {"video": video, "audio": 1 - video}, prior or BOTH, entropy=entropy)


def _each_query_its_own() -> Tensor:
    """Half of the queries of every head read video alone, half audio alone."""
    return (torch.arange(LQ) % 2).float().expand(B, H, LQ)


def _each_head_its_own() -> Tensor:
    return torch.arange(H).float()[:, None].expand(B, H, LQ)


OPTIMA: list[tuple[Regulariser, Callable[[], Tensor], Callable[[], Tensor]]] = [
    (Hoyer(1.0), _each_query_its_own, lambda: torch.full((B, H, LQ), 0.5)),
    (GroupSparsity(1.0), _each_head_its_own, _each_query_its_own),
    (Price(1.0, {"video": 2.0}), lambda: torch.zeros(B, H, LQ), lambda: torch.ones(B, H, LQ)),
]


@pytest.mark.parametrize(("regulariser", "best", "worst"), OPTIMA, ids=lambda x: type(x).__name__)
def test_it_is_zero_at_its_optimum_and_largest_where_it_should_be(
    regulariser: Regulariser, best: Callable[[], Tensor], worst: Callable[[], Tensor]
) -> None:
    largest = {"Hoyer": 1.0, "GroupSparsity": math.sqrt(2) - 1, "Price": 2.0}[type(regulariser).__name__]
    assert float(regulariser([_layer(best())])) == pytest.approx(0.0, abs=2e-3)
    assert float(regulariser([_layer(worst())])) == pytest.approx(largest, abs=2e-3)


@pytest.mark.parametrize(("regulariser", "best", "_"), OPTIMA, ids=lambda x: type(x).__name__)
def test_descending_it_alone_reaches_zero(regulariser: Regulariser, best: Callable, _: Callable) -> None:
    logits = torch.randn(B, H, LQ, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _step in range(200):
        optimizer.zero_grad()
        loss = regulariser([_layer(torch.sigmoid(logits))])
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01
    assert not logits.grad[0, :, 4:].any(), "padding is no query"


def test_entropy_is_that_of_real_queries() -> None:
    entropy = torch.full((B, H, LQ), 3.0)
    entropy[0, :, 4:] = 100.0
    assert float(Entropy(0.5)([_layer(_each_head_its_own(), entropy)])) == pytest.approx(1.5)


@pytest.mark.parametrize("regulariser", [Hoyer(1.0), GroupSparsity(1.0), Price(1.0, {"video": 2.0})])
def test_clips_with_one_modality_have_no_say(regulariser: Regulariser) -> None:
    prior = {"video": torch.tensor([0.5, 1.0]), "audio": torch.tensor([0.5, 0.0])}
    mass = torch.full((B, H, LQ), 0.5)
    mass[1] = 1.0
    alone = {name: value.clone() for name, value in prior.items()}
    alone["audio"][0] = 0.0
    assert float(regulariser([_layer(mass, prior=prior)])) == pytest.approx(
        float(regulariser([_layer(mass[:1].expand(B, -1, -1))]))
    )
    assert float(regulariser([_layer(mass, prior=alone)])) == 0.0


def test_layers_count_the_same() -> None:
    layers = [_layer(torch.full((B, H, LQ), value)) for value in (0.0, 0.5)]
    assert float(Hoyer(0.1)(layers)) == pytest.approx(0.05)


@pytest.mark.parametrize("name", group_choices("regulariser"))
@pytest.mark.parametrize("attention", ["dense", "time_window", "entmax"])
def test_it_reaches_queries_and_keys_of_a_model(
    name: str, attention: str, tiny_model: Callable[..., AVModel], make_tokens: Callable
) -> None:
    regulariser = build(compose("train", [f"regulariser={name}"])["regulariser"])
    fusion = tiny_model("fusion=cross", f"attention={attention}").fusion
    regulariser.check(fusion, 16)
    video, audio = make_tokens(2, 6, 8.0, seed=1), make_tokens(2, 9, 12.0, seed=2)
    regulariser(fusion(video, audio, regulariser.needs).stats).backward()
    moved = {key for key, value in fusion.named_parameters() if value.grad is not None and value.grad.any()}
    assert any("q_proj" in key for key in moved)
    assert any(".k_proj." in key for key in moved)


@pytest.mark.parametrize(
    ("choice", "fusion", "attention"),
    [("hoyer", "late", "dense"), ("hoyer", "cross", "gru"), ("entropy", "cross", "linear"), ("group", "film", "dense")],
)
def test_where_there_is_nothing_to_measure_it_says_so(
    choice: str, fusion: str, attention: str, tiny_model: Callable[..., AVModel]
) -> None:
    regulariser = build(compose("train", [f"regulariser={choice}"])["regulariser"])
    with pytest.raises(UsageError, match="finds nothing to measure"):
        regulariser.check(tiny_model(f"fusion={fusion}", f"attention={attention}").fusion, 16)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [({"weight": 0.0}, "weight=0.0"), ({"weight": float("nan")}, "weight=nan")],
)
def test_impossible_weights_are_refused(spec: Config, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        build({"_target_": "mmattn.attention.regularisers.Hoyer", **spec})


def test_impossible_prices_are_refused() -> None:
    for prices in ({}, {"video": -1.0}, {"video": 0.0}):
        with pytest.raises(UsageError, match="prices="):
            build({"_target_": "mmattn.attention.regularisers.Price", "weight": 1.0, "prices": prices})
