"""Every fusion against its definition, clip by clip, on real tokens alone; and what it starts as, untrained.

Angles of the rotation are made in float32: that is what tolerances are for.
"""

from __future__ import annotations

import math

import definitions
import pytest
import torch
from torch import Tensor, nn

from mmattn.attention.exact.dense import DenseAttention
from mmattn.config.compose import build, group_choices, read_choice
from mmattn.encoders.pretrained.tokens import Projection
from mmattn.fusion.blocks.multi_head import LOCAL_SCORE, MergedAttention, ReadingAttention
from mmattn.fusion.bottleneck import BottleneckFusion
from mmattn.fusion.interface import Fusion
from mmattn.fusion.tensor import LowRankTensorFusion
from mmattn.types import Tokens

DIM, HEADS = 16, 4
SETTINGS = {
    "cross": {"from_layer": 1},
    "bottleneck": {"layers": 4, "from_layer": 1, "tokens": 3},
    "experts": {"joint_layers": 1},
    "hierarchical": {"window_s": 0.7},
}
TOLERANCE = {"rtol": 5e-4, "atol": 5e-4}
KINDS = ("video", "audio")
CASES = [(name, {}) for name in group_choices("fusion")] + [("cross", {"shared": True})]


def made(name: str, position: str = "rotary", **settings: int) -> Fusion:
    torch.manual_seed(3)
    chosen = {"attention": read_choice("attention", "dense"), "position": read_choice("position", position)}
    given = {"dim": DIM, "heads": HEADS, "dropout": 0.5, **chosen}
    given |= SETTINGS.get(name, {}) | settings
    return build({key: given.get(key, value) for key, value in read_choice("fusion", name).items()}).eval()


def clips() -> tuple[Tokens, Tokens]:
    """Whole, no sound, no picture, neither; padding anywhere, of any value; clocks that start far apart."""
    generator = torch.Generator().manual_seed(1)
    streams = []
    for length, present in ((7, [True, True, False, False]), (11, [True, False, True, False])):
        keep = torch.rand(4, length, generator=generator) < 0.7
        keep &= torch.tensor(present)[:, None]
        values = torch.randn(4, length, DIM, generator=generator).double()
        values[~keep] *= 100
        times = 4 * torch.rand(4, length, generator=generator).double() + torch.tensor([[0.0], [3.0], [8.0], [0.0]])
        times[~keep] = -77.0
        streams.append(Tokens(values, keep, times))
    return streams[0], streams[1]


@pytest.mark.parametrize("position", group_choices("position"))
@pytest.mark.parametrize("name, settings", CASES)
def test_a_batch_with_padding_gives_what_the_definition_gives_for_each_clip(
    name: str, settings: dict, position: str
) -> None:
    fusion = made(name, position, **settings).double()
    with torch.no_grad():
        for parameter in fusion.parameters():  # as after training: nothing is zero or tiny any more
            parameter.add_(0.3 * torch.randn(parameter.shape))
        video, audio = clips()
        fused = fusion(video, audio)
        for clip in range(4):
            parts = [
                (kind, tokens.values[clip, tokens.keep[clip]], tokens.times[clip, tokens.keep[clip]])
                for kind, tokens in (("video", video), ("audio", audio))
            ]
            expected = getattr(definitions, name)(fusion, parts)
            for (_, values, _), found in zip(expected, (fused.video, fused.audio), strict=True):
                torch.testing.assert_close(found.values[clip, found.keep[clip]], values, **TOLERANCE)
    for before, after in ((video, fused.video), (audio, fused.audio)):
        assert torch.equal(after.keep, before.keep) and torch.equal(after.times, before.times)
        assert not after.values[~after.keep].any(), "padding is 0"


@pytest.mark.parametrize("empty", ["video", "audio"])
@pytest.mark.parametrize("name", group_choices("fusion"))
def test_a_stream_of_no_tokens_is_one_of_padding_alone(name: str, empty: str) -> None:
    fusion = made(name).double()
    streams = dict(zip(KINDS, clips(), strict=True))
    padding = streams[empty].without(torch.ones(4, dtype=torch.bool))
    nothing = Tokens(*(x[:, :0] for x in (streams[empty].values, streams[empty].keep, streams[empty].times)))
    with torch.no_grad():
        found = fusion(**(streams | {empty: nothing}))
        expected = fusion(**(streams | {empty: padding}))
    (other,) = {*KINDS} - {empty}
    torch.testing.assert_close(getattr(found, other).values, getattr(expected, other).values, **TOLERANCE)
    assert getattr(found, empty).values.shape == (4, 0, DIM)


@pytest.mark.parametrize("name", [name for name in group_choices("fusion") if name != "adapter"])
def test_dropout_is_in_training_alone(name: str) -> None:
    fusion = made(name).double()
    with torch.no_grad():
        assert torch.equal(*(fusion(*clips()).video.values for _ in range(2)))
        fusion.train()
        assert not torch.equal(*(fusion(*clips()).video.values for _ in range(2)))


@pytest.mark.parametrize("name", [name for name in group_choices("fusion") if name != "recurrent"])
def test_a_later_clock_changes_nothing(name: str) -> None:
    video, audio = clips()
    fusion = made(name).double()
    later = [Tokens(s.values, s.keep, s.times + 8.0) for s in (video, audio)]
    with torch.no_grad():
        before, after = fusion(video, audio), fusion(*later)
    torch.testing.assert_close(after.video.values, before.video.values, **TOLERANCE)
    torch.testing.assert_close(after.audio.values, before.audio.values, **TOLERANCE)


@pytest.mark.parametrize("kind", ["reading", "merged"])
def test_half_of_the_heads_start_by_preferring_their_own_instant(kind: str) -> None:
    """For tokens of nothing (all 0) the biases alone score: 6 at the same instant, less by the rotation's cosines."""
    times = torch.arange(20.0)[None].double()
    parts = [("video", Tokens(torch.zeros(1, 20, DIM).double(), torch.ones(1, 20, dtype=torch.bool), times))]
    make = ReadingAttention if kind == "reading" else MergedAttention
    more = (("video",),) if kind == "reading" else ()
    layer = make(DIM, HEADS, DenseAttention, *more).double()
    with torch.no_grad():
        scores = _weights(layer, parts, parts).log()
    periods = torch.tensor([0.2, 20.0]).double()
    cosines = (2 * math.pi * (times[0, :, None] - times[0])[..., None] / periods).cos().mean(dim=-1)
    for head in range(HEADS):
        expected = LOCAL_SCORE * (cosines - 1) if head < HEADS // 2 else torch.zeros(20, 20).double()
        found = scores[head] - scores[head].diagonal()[:, None]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_learned_tokens_start_without_an_instant() -> None:
    """They read all instants alike and are read alike from all, in every head."""
    fusion = made("bottleneck").double()
    first = clips()[0]
    video = Tokens(0 * first.values[:1], first.keep[:1], first.times[:1])
    middle = torch.full((1, 3), 2.0).double()
    shared = Tokens(torch.zeros(1, 3, DIM).double(), torch.ones(1, 3, dtype=torch.bool), middle)
    parts = [("video", video), ("bottleneck", shared)]
    with torch.no_grad():
        weights = _weights(fusion.blocks[1]["video"].attn, parts, parts)
    real = video.keep[0]
    asks = weights[:, 7:, :7][..., real]
    torch.testing.assert_close(asks, asks[..., :1].expand_as(asks), rtol=1e-6, atol=1e-9)
    assert (weights[: HEADS // 2, :7, :7][:, real][..., real].std(dim=-1) > 0.01).all()


def _weights(layer: nn.Module, asks: list, reads: list) -> Tensor:
    return layer(asks, reads, frozenset({"mass", "weights"}))[1]["weights"][0]


def test_what_starts_shut_or_open() -> None:
    """An untrained adapter changes nothing; alone, a modality passes a low-rank product unchanged."""
    assert all(not layer.gate for pair in made("adapter").layers for layer in pair.values())
    fusion = made("tensor")
    assert isinstance(fusion, LowRankTensorFusion)
    for factor in fusion.factors.values():
        assert torch.equal(factor(torch.zeros(DIM)), torch.ones(4 * DIM))


def test_who_is_not_there_has_no_say_in_the_bottleneck() -> None:
    fusion = made("bottleneck").double()
    assert isinstance(fusion, BottleneckFusion)
    video, audio = clips()
    with torch.no_grad():
        before = fusion(video, audio).video.values
        for pair in fusion.blocks:
            for parameter in pair["audio"].parameters():
                parameter.normal_()
        after = fusion(video, audio).video.values
    assert torch.equal(after[1], before[1]), "without sound"
    assert not torch.equal(after[0], before[0]), "with it"


def test_projected_channels_are_normalised() -> None:
    x = Projection(8, DIM)(5 + 30 * torch.randn(4, 6, 8))
    torch.testing.assert_close(x.mean(dim=-1), torch.zeros(4, 6), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std(dim=-1, correction=0), torch.ones(4, 6), rtol=0, atol=1e-3)
