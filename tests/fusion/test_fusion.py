"""What every fusion of conf/fusion keeps under attentions of three kinds: all pairs, a window of time, a recurrence.

What each computes is in test_definitions.py; that each runs with each, and who hears of whom, in test_reach.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mmattn.attention.interface import Attention
from mmattn.config.compose import build, group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.fusion.interface import Fusion
from mmattn.types import Fused, Tokens

CLIPS, VIDEO, AUDIO, DIM, HEADS = 3, 6, 9, 16, 2
MASS = frozenset({"mass"})
TOLERANCE = {"rtol": 1e-4, "atol": 5e-5}  # processors differ in the last bits, which low-rank maps amplify
BREAKS = {"hierarchical"}  # windows are counted by the data
FUSIONS = group_choices("fusion")
PAIRS = [(name, kind) for name in FUSIONS for kind in ("dense", "time_window", "gated_linear")]
PAIRS = [(name, kind) for name, kind in PAIRS if name != "recurrent" or kind == "dense"]


@pytest.fixture
def make_fusion(tiny_config: Callable) -> Callable[..., Fusion]:
    def make(name: str, attention: str = "dense") -> Fusion:
        torch.manual_seed(3)
        given = [] if name == "recurrent" else [f"attention={attention}"]
        return build(tiny_config(f"fusion={name}", *given)["fusion"]).eval()

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


def test_a_clip_fuses_alone_as_in_a_batch_whatever_its_padding(fusion: Fusion, streams: tuple, read: Callable) -> None:
    """Nothing of a dropped stream is left either, whatever it held."""

    def pad(tokens: Tokens) -> Tokens:
        values = torch.nn.functional.pad(tokens.values, (0, 0, 3, 2), value=30.0)
        times = torch.nn.functional.pad(tokens.times, (3, 2), value=5.0)
        return Tokens(values, torch.nn.functional.pad(tokens.keep, (3, 2)), times)

    with torch.no_grad():
        video, audio = _drop(streams[0], 1), _drop(streams[1], 2)
        together, padded = fusion(video, audio), fusion(pad(video), pad(audio))
        torch.testing.assert_close(read(padded), read(together), **TOLERANCE)
        for clip in range(CLIPS):
            part = [Tokens(s.values[[clip]], s.keep[[clip]], s.times[[clip]]) for s in (video, audio)]
            alone = fusion(*part)
            torch.testing.assert_close(read(alone)[0], read(together)[clip], **TOLERANCE)
        less = [Tokens(s.values[[1]], s.keep[[1]], s.times[[1]]) for s in (video, audio)]
        less[0] = Tokens(9 * torch.ones(1, 4, DIM), less[0].keep[:, :4], less[0].times[:, :4] + 3)
        torch.testing.assert_close(read(fusion(*less))[0], read(together)[1], **TOLERANCE)
        assert (read(fusion(*streams)) - read(together))[1:].abs().amax(dim=1).min() > 1e-3, "what is there counts"


def test_with_nothing_at_all_it_stays_finite_and_equal_for_all(fusion: Fusion, streams: tuple, read: Callable) -> None:
    nothing = [_drop(stream, *range(CLIPS)) for stream in streams]
    fused = fusion(*nothing, MASS)
    assert read(fused).isfinite().all()
    torch.testing.assert_close(read(fused), read(fused)[:1].expand(CLIPS, -1), **TOLERANCE)
    read(fused).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())
    assert all(not mass.any() for layer in fused.stats for mass in layer.mass.values())


@pytest.mark.parametrize(("clips", "tokens"), [(0, 5), (0, 1), (0, 0), (2, 0)])
def test_no_clips_and_no_tokens_give_none(fusion: Fusion, streams: tuple, clips: int, tokens: int) -> None:
    given = [Tokens(*(x[:clips, :tokens] for x in (s.values, s.keep, s.times))) for s in streams]
    fused = fusion(*given, MASS)
    for one, stream in zip((fused.video, fused.audio), given, strict=True):
        assert one.values.shape == stream.values.shape
        assert one.keep is stream.keep


@pytest.mark.parametrize("content", [torch.nan, torch.inf])
def test_what_is_no_number_in_padding_changes_nothing(fusion: Fusion, streams: tuple, content: float) -> None:
    """Neither as a value nor as a time; nor the gradients, which are 0 there."""
    found = []
    for value in (0.0, content):
        given = []
        for stream in (_drop(streams[0], 1), _drop(streams[1], 2)):
            keep = stream.keep.clone()
            keep[0, -2:] = False
            values = stream.values.masked_fill(~keep[..., None], value).requires_grad_()
            given.append(Tokens(values, keep, stream.times.masked_fill(~keep, value)))
        fused = fusion(*given, MASS)
        real = [one.values[one.keep] for one in (fused.video, fused.audio)]
        shares = [
            mass[stats.query_keep[:, None].expand_as(mass)] for stats in fused.stats for mass in stats.mass.values()
        ]
        leaves = [*(tokens.values for tokens in given), *fusion.parameters()]
        total = sum(x.square().sum() for x in real)
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        assert not any(slope[~tokens.keep].any() for slope, tokens in zip(gradients, given, strict=False))
        found.append([*real, *shares, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


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
    grads = {name: parameter.grad for name, parameter in fusion.named_parameters()}
    assert not [name for name, grad in grads.items() if grad is None]
    # Gates of a recurrence have nothing to say where one side is exempt from order.
    told = {
        name: grad
        for name, grad in grads.items()
        if not name.endswith(("attention.decay_weight", "attention.decay_bias"))
    }
    assert not [name for name, grad in told.items() if grad.abs().max() < 1e-7]


def test_shares_are_asked_for_by_layer_and_stream_and_sum_to_one(fusion: Fusion, streams: tuple) -> None:
    video, audio = streams[0], _drop(streams[1], 2)
    plain, fused = fusion(video, audio), fusion(video, audio, MASS)
    assert not plain.stats, "nothing is measured unasked"
    for one, other in ((fused.video, plain.video), (fused.audio, plain.audio)):
        torch.testing.assert_close(one.values, other.values, **TOLERANCE)
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


def test_entropy_and_lag_are_those_of_the_weights(make_fusion: Callable, streams: tuple) -> None:
    """Of each part by its own times: the mean time that is attended to, less the query's own."""
    video, audio = streams
    for layer in make_fusion("concat")(video, audio, frozenset({"mass", "entropy", "mean_time", "weights"})).stats:
        own = {"video": video, "audio": audio}[layer.stream]
        assert layer.weights is not None and layer.lag is not None and layer.entropy is not None
        parts = zip(layer.weights.values(), streams, strict=True)
        attended = torch.stack([(weights @ part.times[..., None])[..., 0] for weights, part in parts]).sum(dim=0)
        torch.testing.assert_close(layer.lag.mean(dim=1), attended - own.times, rtol=0, atol=1e-4)
        for name, mass in layer.mass.items():
            torch.testing.assert_close(mass.mean(dim=1), layer.weights[name].sum(dim=2), rtol=0, atol=1e-5)
        assert (layer.entropy > 0).all()


@pytest.mark.parametrize("name", group_choices("fusion"))
def test_it_compiles_into_one_graph_unless_it_says_so(name: str, make_fusion: Callable, streams: tuple) -> None:
    """backend="eager": dynamo's capture alone, which is where graphs break."""
    fusion = make_fusion(name)
    with torch.no_grad():
        broken = torch._dynamo.explain(fusion)(*streams).graph_break_count
    torch._dynamo.reset()
    assert bool(broken) == (not fusion.one_graph) == (name in BREAKS), f"{broken} graph breaks"


def test_late_is_a_sum_of_unimodal_parts(make_fusion: Callable, streams: tuple, read: Callable) -> None:
    """So that under a linear head its logits are, and synergy in logits is exactly 0."""
    late = make_fusion("late")
    video, audio = streams
    blind, silent = (_drop(stream, *range(CLIPS)) for stream in streams)
    both, parts = read(late(video, audio)), read(late(video, silent)) + read(late(blind, audio))
    torch.testing.assert_close(both, parts - read(late(blind, silent)), **TOLERANCE)


def test_a_width_that_does_not_divide_among_heads_is_refused(tiny_config: Callable) -> None:
    with pytest.raises(UsageError, match="dim 16 does not divide into 3 heads"):
        build(tiny_config("fusion=cross", "heads=3")["fusion"])
