"""Heat over tokens against the definition, and on readers whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from mmattn.config.compose import build, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.fusion.interface import Fusion
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.tasks.tagging.tagging import Tagging
from mmattn.types import MODALITIES, Batch, Fused, Tokens
from mmattn.weighting.heat.banzhaf import banzhaf
from mmattn.weighting.heat.encoded_clip import EncodedClip
from mmattn.weighting.heat.faithfulness import faithfulness
from mmattn.weighting.heat.rollout import rollout

LV, LA, DIM = 4, 3, 16


class Apart(Fusion):
    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        return Fused(video, audio)


class Rule(Task):
    """Tag 0: the largest value heard. Tag 1: the product of video token 1 and audio token 2. Tag 2: a constant."""

    vocabulary = TagVocabulary(("loudest", "both", "constant"))

    def forward(self, fused: Fused) -> Tensor:
        seen, heard = ((tokens.values[..., 0] * tokens.keep) for tokens in (fused.video, fused.audio))
        return torch.stack([heard.amax(dim=1), seen[:, 1] * heard[:, 2], torch.ones(len(seen))], dim=1)

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        return logits


def tokens(length: int, values: list[float] | None = None, dim: int = 1, padded: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(1, length + padded, dim, generator=generator)
    if values is not None:
        x[0, :length, 0] = torch.tensor(values)
    keep = (torch.arange(length + padded) < length)[None]
    return Tokens(x, keep, torch.arange(length + padded)[None] / 10)


def reader() -> EncodedClip:
    model = AVModel(torch.nn.Identity(), torch.nn.Identity(), Apart(), Rule())  # type: ignore[arg-type]
    return EncodedClip(model, tokens(LV, [0.5, 1, 2, 3]), tokens(LA, [1, 3, 2], padded=2), batch_size=10)


def exact(clip: EncodedClip, tag: int) -> list[float]:
    """By the definition: over all choices of the others, the mean of what a token adds (Banzhaf 1965)."""
    count = LV + LA

    def value(chosen: tuple[int, ...]) -> float:
        mask = torch.tensor(chosen, dtype=torch.bool)
        masks = {"video": mask[None, :LV], "audio": torch.cat([mask[LV:], torch.ones(2, dtype=torch.bool)])[None]}
        return float(clip.scores(masks, [tag])[0, 0])

    added = []
    for i in range(count):
        total = 0.0
        for others in product((0, 1), repeat=count - 1):
            total += value((*others[:i], 1, *others[i:])) - value((*others[:i], 0, *others[i:]))
        added.append(total / 2 ** (count - 1))
    return added


def test_banzhaf_values_are_those_of_the_definition_within_their_error() -> None:
    clip = reader()
    heat, error = banzhaf(clip, [0, 1, 2], masks=4096)
    for tag in (0, 1, 2):
        found = torch.cat([heat["video"][tag], heat["audio"][tag, :LA]])
        expected = torch.tensor(exact(clip, tag))
        torch.testing.assert_close(found, expected, rtol=0, atol=float(4 * error[tag]) + 1e-6)
    assert not heat["audio"][:, LA:].any(), "padding"
    assert float(error[2]) == 0.0


def test_the_error_falls_with_the_number_of_masks() -> None:
    clip = reader()
    expected = torch.tensor(exact(clip, 0))

    def rms(masks: int) -> float:
        found = [banzhaf(clip, [0], masks, seed)[0] for seed in range(40)]
        all_ = torch.stack([torch.cat([h["video"][0], h["audio"][0, :LA]]) for h in found])
        return float((all_ - expected).square().mean().sqrt())

    assert 2.0 < rms(32) / rms(512) < 8.0  # 1 / sqrt(masks) says 4


def test_deletion_and_insertion_know_the_token_that_decides() -> None:
    clip = reader()
    heat, _ = banzhaf(clip, [1], masks=1024)
    found = faithfulness(clip, heat, 0, 1, orders=64)
    assert found.deletion.scores[0] == found.insertion.scores[-1] == 2.0  # 1 x 2
    assert found.deletion.scores[-1] == found.insertion.scores[0] == 0.0
    assert found.insertion.area > found.insertion.random_area + found.insertion.random_spread
    assert found.deletion.area < found.deletion.random_area
    assert found.gain > 0.5
    backwards = faithfulness(clip, {name: -value for name, value in heat.items()}, 0, 1, orders=64)
    assert backwards.gain < 0


def test_only_the_named_modality_is_moved() -> None:
    clip = reader()
    heat, _ = banzhaf(clip, [0], masks=64)
    assert set(faithfulness(clip, heat, 0, 0, ["video"]).deletion.scores) == {3.0}, "the loudest is still heard"
    assert faithfulness(clip, heat, 0, 0, ["audio"]).deletion.scores[-1] == 0.0
    silent = EncodedClip(clip.model, clip.video, clip.audio.without(torch.tensor([True])))
    with pytest.raises(ValueError, match="no audio"):
        faithfulness(silent, heat, 0, 0, ["audio"])


@pytest.mark.parametrize("attention", ["dense", "time_window", "linear", "gru"])
@pytest.mark.parametrize("name", [name for name in group_choices("fusion") if name != "recurrent"])
def test_rollout_shares_out_what_each_tag_looks_at(name: str, attention: str, tiny_config: Callable) -> None:
    torch.manual_seed(0)
    fusion = build(tiny_config(f"fusion={name}", f"attention={attention}")["fusion"])
    task = Tagging(DIM, TagVocabulary(("a", "b", "c"), exclusive=((1, 2),)))
    for pool in task.pools.values():
        torch.nn.init.normal_(pool.score.weight)
    model = AVModel(torch.nn.Identity(), torch.nn.Identity(), fusion, task).eval()  # type: ignore[arg-type]
    clip = EncodedClip(model, tokens(LV, dim=DIM), tokens(LA, dim=DIM, padded=2))
    looked = rollout(clip, [0, 2])
    tells = name in ("late", "cross", "concat", "bottleneck", "perceiver", "experts") and attention != "gru"
    assert (looked is not None) == tells
    if looked is None:
        return
    whole = torch.cat([looked[modality] for modality in MODALITIES], dim=1)
    assert (whole >= 0).all()
    torch.testing.assert_close(whole.sum(dim=1), torch.ones(2))
    assert not looked["audio"][:, LA:].any(), "padding"
    blind = EncodedClip(model, clip.video.without(torch.tensor([True])), clip.audio)
    seen = rollout(blind, [0])
    assert seen is not None
    assert not seen["video"].any()
    torch.testing.assert_close(seen["audio"].sum(), torch.tensor(1.0))
