"""A trained model under another mechanism: the same where they agree, refused with the reason where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmattn.checkpoint import MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.config.compose import group_choices, read_choice
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.types import Batch

CLIP = ClipSpec(seconds=1.0, mels=12)
OWN_WEIGHTS = {"additive", "gated_linear", "gru", "gru_additive", "latents", "linformer"}


@pytest.fixture(scope="module")
def saved(tiny_model: Callable, tiny_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def save(*overrides: str) -> Path:
        model, path = tiny_model(*overrides), tmp_path_factory.mktemp("model") / MODEL_FILE
        save_model(path, Checkpoint(model, tiny_config(*overrides), model.task.vocabulary, CLIP, {"epoch": 3}))
        return path

    return save


@pytest.fixture(scope="module")
def dense(saved: Callable[..., Path]) -> Path:
    return saved("attention=dense")


def _window(past_s: float) -> dict:
    spec = read_choice("attention", "time_window")
    spec["pattern"] |= {"past_s": past_s, "future_s": past_s}
    return spec


@pytest.mark.parametrize("name", group_choices("attention"))
def test_every_mechanism_without_weights_of_its_own_can_take_over(
    name: str, dense: Path, make_batch: Callable[..., Batch]
) -> None:
    if name in OWN_WEIGHTS:
        with pytest.raises(UsageError, match="weights that were not trained"):
            load_model(dense, read_choice("attention", name))
        return
    batch = make_batch(3, missing={1: "video"})
    logits = load_model(dense, read_choice("attention", name)).model(batch)
    assert logits.isfinite().all()


def test_a_window_as_long_as_the_clip_is_dense_and_a_short_one_is_not(
    dense: Path, make_batch: Callable[..., Batch]
) -> None:
    batch = make_batch(3, frames=8, rows=100, missing={1: "video"})
    with torch.no_grad():
        trained = load_model(dense).model(batch)
        long, short = (load_model(dense, _window(past_s)).model(batch) for past_s in (1.0, 0.05))
    torch.testing.assert_close(long, trained, rtol=0, atol=1e-5)
    assert (short - trained).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("trained", "other", "says"),
    [
        ("attention=dense", "additive", r"has weights that were not trained \(score\)"),
        ("attention=additive", "dense", r"lacks weights that were trained \(score\)"),
        ("attention=latents", "gru", "not trained .*gru"),
        ("fusion=recurrent", "dense", "RecurrentFusion has no attention"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    trained: str, other: str, says: str, saved: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=says):
        load_model(saved(trained), read_choice("attention", other))


def test_a_size_that_differs_is_refused_too(saved: Callable[..., Path]) -> None:
    spec = read_choice("attention", "latents") | {"latents": 3}
    with pytest.raises(UsageError, match="do not fit"):
        load_model(saved("attention=latents"), spec)


def test_what_a_config_may_not_build_may_not_take_over(dense: Path) -> None:
    with pytest.raises(UsageError, match=r"is (not a class|code of the package)"):
        load_model(dense, {"_target_": "os.system", "_partial_": True})
