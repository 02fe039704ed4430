"""Every fusion of conf/fusion under every attention of conf/attention; and what sets late and cross apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Attention
from mmattn.config import build, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.fusion.base import Fusion
from mmattn.types import Fused, Tokens

CLIPS, VIDEO, AUDIO, DIM, HEADS = 3, 6, 9, 16, 2
MASS = frozenset({"mass"})
TOLERANCE = {"rtol": 1e-4, "atol": 5e-5}  # processors differ in the last bits, which low-rank maps amplify
BREAKS = {"hierarchical"}  # windows are counted by the data
FUSIONS, ATTENTIONS = group_choices("fusion"), group_choices("attention")
EVERY_PAIR = [(fusion, attention) for fusion in FUSIONS for attention in ATTENTIONS]
# The whole suite: every fusion under mechanisms of three kinds, every mechanism in the fusions with and without others'
# tokens. What is left of the product is seen to run and to learn.
PAIRS = [
    pair for pair in EVERY_PAIR if pair[1] in ("dense", "time_window", "linear") or pair[0] in ("bottleneck", "cross")
]


@pytest.fixture
def make_fusion(tiny_config: Callable) -> Callable[..., Fusion]:
    def make(name: str, attention: str = "dense") -> Fusion:
        torch.manual_seed(3)
        return build(tiny_config(f"fusion={name}", f"attention={attention}")["fusion"]).eval()

    return make


@pytest.fixture(params=PAIRS, ids="-".join)
def fusion(request: pytest.FixtureRequest, make_fusion: Callable) -> Fusion:
    return make_fusion(*request.param)


@pytest.fixture
def read(tiny_config: Callable, vocabulary: TagVocabulary) -> Callable[[Fused], Tensor]:
    """A task's view of a fused clip, (B, K) logits: what all of this is for."""
    torch.manual_seed(4)
    task = build(tiny_config()["task"], vocabulary=vocabulary).eval()
    with torch.no_grad():  # as after training: nothing is zero or tiny any more
        for parameter in task.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return task


@pytest.fixture
def streams(make_tokens: Callable) -> tuple[Tokens, Tokens]:
    return make_tokens(CLIPS, VIDEO, 8.0, seed=1), make_tokens(CLIPS, AUDIO, 25.0, seed=2)


def _drop(tokens: Tokens, *clips: int) -> Tokens:
    return tokens.without(torch.tensor([clip in clips for clip in range(len(tokens.keep))]))


def _same(one: Fused, other: Fused) -> None:
    torch.testing.assert_close(one.video.values, other.video.values, **TOLERANCE)
    torch.testing.assert_close(one.audio.values, other.audio.values, **TOLERANCE)


@pytest.mark.parametrize(("name", "attention"), EVERY_PAIR, ids=map("-".join, EVERY_PAIR))
def test_any_fusion_takes_any_attention(name: str, attention: str, make_fusion: Callable, streams: tuple) -> None:
    fusion = make_fusion(name, attention)
    leaves = [Tokens(s.values.clone().requires_grad_(), s.keep, s.times) for s in streams]
    fused = fusion(_drop(leaves[0], 1), _drop(leaves[1], 2), MASS)
    (fused.video.values.square().sum() + fused.audio.values.square().sum()).backward()
    assert all(stream.values.grad.isfinite().all() and stream.values.grad.any() for stream in leaves)


def test_streams_keep_their_shape_and_nothing_is_measured_unasked(fusion: Fusion, streams: tuple) -> None:
    fused = fusion(*streams)
    for before, after in zip(streams, (fused.video, fused.audio), strict=True):
        assert after.values.shape == before.values.shape
        assert torch.equal(after.keep, before.keep)
        assert torch.equal(after.times, before.times)
    assert not fused.stats


def test_a_clip_fuses_alone_as_in_a_batch(fusion: Fusion, streams: tuple, read: Callable) -> None:
    video, audio = _drop(streams[0], 1), _drop(streams[1], 2)
    together = fusion(video, audio)
    for clip in range(CLIPS):
        part = [Tokens(s.values[[clip]], s.keep[[clip]], s.times[[clip]]) for s in (video, audio)]
        torch.testing.assert_close(read(fusion(*part))[0], read(together)[clip], **TOLERANCE)


def test_padding_changes_nothing(fusion: Fusion, streams: tuple, read: Callable) -> None:
    """Not its amount, nor its place, nor its values."""

    def pad(tokens: Tokens, value: float) -> Tokens:
        values = torch.cat([torch.full((CLIPS, 3, DIM), value), tokens.values, torch.full((CLIPS, 2, DIM), value)], 1)
        keep = torch.nn.functional.pad(tokens.keep, (3, 2))
        return Tokens(values, keep, torch.nn.functional.pad(tokens.times, (3, 2), value=5.0))

    before = fusion(*streams)
    for value in (0.0, 30.0):
        after = fusion(pad(streams[0], value), pad(streams[1], value))
        torch.testing.assert_close(read(after), read(before), **TOLERANCE)
        torch.testing.assert_close(after.video.values[:, 3:-2], before.video.values, **TOLERANCE)
        torch.testing.assert_close(after.audio.values[:, 3:-2], before.audio.values, **TOLERANCE)


@pytest.mark.parametrize("missing", ["video", "audio"])
def test_a_missing_modality_is_as_if_it_had_never_been(
    fusion: Fusion,
    streams: tuple,
    make_tokens: Callable,
    missing: str,
    read: Callable,
) -> None:
    """Whatever the dropped stream held, and however long it was, nothing of it is left."""
    everyone = range(CLIPS)
    at = 0 if missing == "video" else 1
    before = fusion(*(_drop(s, *everyone) if i == at else s for i, s in enumerate(streams)))
    other = _drop(make_tokens(CLIPS, 4, 8.0, seed=77), *everyone)
    after = fusion(*(other if i == at else s for i, s in enumerate(streams)))
    torch.testing.assert_close(read(after), read(before), **TOLERANCE)
    kept = [(fused.audio if at == 0 else fused.video).values for fused in (before, after)]
    torch.testing.assert_close(*kept, **TOLERANCE)
    full = fusion(*streams)
    assert (read(full) - read(before)).abs().max() > 1e-3, "a present modality does count"


def test_with_nothing_at_all_it_stays_finite_and_equal_for_all(fusion: Fusion, streams: tuple, read: Callable) -> None:
    nothing = [_drop(stream, *range(CLIPS)) for stream in streams]
    fused = fusion(*nothing, MASS)
    assert read(fused).isfinite().all()
    torch.testing.assert_close(read(fused), read(fused)[:1].expand(CLIPS, -1), **TOLERANCE)
    read(fused).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())
    assert all(not mass.any() for layer in fused.stats for mass in layer.mass.values())


def test_gradients_reach_both_streams_and_every_parameter(fusion: Fusion, streams: tuple, read: Callable) -> None:
    with torch.no_grad():  # as after a step of training: gates that begin at 0 have opened
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    leaves = [Tokens(s.values.clone().requires_grad_(), s.keep, s.times) for s in streams]
    video, audio = _drop(leaves[0], 1), _drop(leaves[1], 2)
    (read(fusion(video, audio)) * torch.randn(CLIPS, 5)).sum().backward()
    for stream, gone in zip(leaves, (1, 2), strict=True):
        assert stream.values.grad.isfinite().all()
        assert [bool(grad.any()) for grad in stream.values.grad] == [clip != gone for clip in range(CLIPS)]
    # A bias shared by all keys cancels in a softmax; rotation by time is what keeps it alive here.
    assert not [name for name, p in fusion.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]


def test_shares_are_asked_for_by_layer_and_stream_and_sum_to_one(fusion: Fusion, streams: tuple) -> None:
    video, audio = streams[0], _drop(streams[1], 2)
    plain, fused = fusion(video, audio), fusion(video, audio, MASS)
    with torch.no_grad():
        _same(fusion(video, audio, MASS), plain)
    _same(fused, plain)
    places = [(layer.layer, layer.stream) for layer in fused.stats]
    assert len(set(places)) == len(places)
    mechanisms = [part for part in fusion.modules() if isinstance(part, Attention)]
    defined = all("mass" in mechanism.supports for mechanism in mechanisms)
    assert {layer.kind for layer in fused.stats} == (
        {fusion.weighs} - {None} if defined else {"gate"} & {fusion.weighs}
    )
    for layer in fused.stats:
        total = torch.stack(list(layer.mass.values())).sum(dim=0)
        assert total.shape == (CLIPS, HEADS, layer.query_keep.shape[1])
        real = layer.query_keep[:, None].expand_as(total)
        torch.testing.assert_close(total[real], torch.ones_like(total[real]), rtol=0, atol=1e-6)
        assert set(layer.mass) == set(layer.prior)
        torch.testing.assert_close(torch.stack(list(layer.prior.values())).sum(dim=0)[:2], torch.ones(2))
        for name in {"audio"} & set(layer.mass):
            assert not layer.mass[name][2].any(), "nothing is owed to what is not there"
            assert not layer.prior[name][2].any()
        one = layer.one(1)
        assert all(torch.equal(one.mass[name], layer.mass[name][1:2]) for name in layer.mass)


@pytest.mark.parametrize("name", ["late", "cross", "concat"])
def test_the_prior_is_what_uniform_attention_would_give(make_fusion: Callable, streams: tuple, name: str) -> None:
    video, audio = streams[0], _drop(streams[1], 2)
    counts = {"video": video.keep.sum(dim=1).float(), "audio": audio.keep.sum(dim=1).float()}
    for layer in make_fusion(name)(video, audio, MASS).stats:
        assert torch.equal(layer.query_keep, {"video": video, "audio": audio}[layer.stream].keep)
        for modality, prior in layer.prior.items():
            total = sum(counts[read] for read in layer.prior).clamp(min=1)
            torch.testing.assert_close(prior, counts[modality] / total)


@pytest.mark.parametrize("name", group_choices("fusion"))
def test_it_compiles_into_one_graph_unless_it_says_so(name: str, make_fusion: Callable, streams: tuple) -> None:
    """backend="eager": dynamo's capture alone, which is where graphs break."""
    fusion = make_fusion(name)
    with torch.no_grad():
        broken = torch._dynamo.explain(fusion)(*streams).graph_break_count
    torch._dynamo.reset()
    assert bool(broken) == (not fusion.one_graph) == (name in BREAKS), f"{broken} graph breaks"


def test_weights_go_round_through_a_state_dict(
    fusion: Fusion, streams: tuple, make_fusion: Callable, read: Callable
) -> None:
    state = {name: tensor.clone() for name, tensor in fusion.state_dict().items()}
    before = fusion(*streams)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(1.0)
    assert not torch.equal(read(fusion(*streams)), read(before))
    fusion.load_state_dict(state)
    assert torch.equal(read(fusion(*streams)), read(before))


def test_late_streams_never_read_each_other(make_fusion: Callable, streams: tuple, make_tokens: Callable) -> None:
    late = make_fusion("late")
    video, audio = streams
    before = late(video, audio)
    assert torch.equal(late(video, make_tokens(CLIPS, AUDIO, 25.0, seed=9)).video.values, before.video.values)
    assert torch.equal(late(make_tokens(CLIPS, VIDEO, 8.0, seed=9), audio).audio.values, before.audio.values)


def test_late_is_a_sum_of_unimodal_parts(make_fusion: Callable, streams: tuple, read: Callable) -> None:
    """So that under a linear head its logits are, and synergy in logits is exactly 0."""
    late = make_fusion("late")
    video, audio = streams
    blind, silent = (_drop(stream, *range(CLIPS)) for stream in streams)
    both, parts = read(late(video, audio)), read(late(video, silent)) + read(late(blind, audio))
    torch.testing.assert_close(both, parts - read(late(blind, silent)), **TOLERANCE)


def test_cross_streams_read_each_other(
    make_fusion: Callable, streams: tuple, make_tokens: Callable, read: Callable
) -> None:
    cross = make_fusion("cross")
    video, audio = streams
    before = cross(video, audio)
    heard, seen = cross(video, make_tokens(CLIPS, AUDIO, 25.0, seed=9)), cross(make_tokens(CLIPS, VIDEO, 8.0, 9), audio)
    assert (heard.video.values - before.video.values).abs().amax(dim=(1, 2)).min() > 1e-3
    assert (seen.audio.values - before.audio.values).abs().amax(dim=(1, 2)).min() > 1e-3
    blind, silent = (_drop(stream, *range(CLIPS)) for stream in streams)
    parts = read(cross(video, silent)) + read(cross(blind, audio)) - read(cross(blind, silent))
    assert (read(before) - parts).abs().max() > 1e-3
    assert {frozenset(layer.mass) for layer in cross(video, audio, MASS).stats} == {frozenset({"video", "audio"})}


def test_times_not_places_in_the_sequence_decide_who_meets_whom(
    make_fusion: Callable, streams: tuple, read: Callable
) -> None:
    cross = make_fusion("cross")
    video, audio = streams
    order = torch.randperm(AUDIO, generator=torch.Generator().manual_seed(4))
    moved = Tokens(audio.values[:, order], audio.keep[:, order], audio.times[:, order])
    torch.testing.assert_close(read(cross(video, moved)), read(cross(video, audio)), **TOLERANCE)
    later = Tokens(audio.values, audio.keep, audio.times + 0.37)
    assert (read(cross(video, later)) - read(cross(video, audio))).abs().max() > 1e-4


def test_a_width_that_does_not_divide_among_heads_is_refused(tiny_config: Callable) -> None:
    from mmattn.errors import UsageError

    with pytest.raises(UsageError, match="dim 16 does not divide into 3 heads"):
        build(tiny_config("fusion=cross", "heads=3")["fusion"])
