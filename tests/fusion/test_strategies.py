"""What sets each strategy apart from the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmattn.attention.exact.attention import ExactAttention
from mmattn.config.compose import build, group_choices
from mmattn.errors import UsageError
from mmattn.fusion.adapter import AdapterFusion
from mmattn.fusion.bottleneck import BottleneckFusion
from mmattn.fusion.catalogue.strategies import count_flops, table
from mmattn.fusion.concat import ConcatFusion
from mmattn.fusion.cross import CrossFusion
from mmattn.fusion.experts import ExpertsFusion
from mmattn.fusion.film import FiLMFusion
from mmattn.fusion.gated import GatedFusion
from mmattn.fusion.hierarchical import HierarchicalFusion
from mmattn.fusion.interface import Fusion
from mmattn.fusion.perceiver import PerceiverFusion
from mmattn.fusion.recurrent import RecurrentFusion
from mmattn.fusion.tensor import LowRankTensorFusion
from mmattn.types import MODALITIES, Tokens

CLIPS, VIDEO, AUDIO, DIM, HEADS = 2, 10, 24, 16, 2
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def streams(make_tokens: Callable) -> tuple[Tokens, Tokens]:
    return make_tokens(CLIPS, VIDEO, 4.0, seed=1), make_tokens(CLIPS, AUDIO, 10.0, seed=2)


def _changed(tokens: Tokens, token: int) -> Tokens:
    values = tokens.values.clone()
    values[:, token] = torch.randn(values[:, token].shape, generator=torch.Generator().manual_seed(8)) * 3
    return Tokens(values, tokens.keep, tokens.times)


def _flops(fusion: Fusion, video: int, audio: int, seconds: float = 10.0) -> int:
    dim = next(p.shape[-1] for p in fusion.parameters())
    return count_flops(fusion, dim, video, audio, seconds)


def _layer_flops(asks: int, reads: int, dim: int) -> int:
    """Of one block for one clip: projections, scores and sums, MLP; a multiply and an add count as two."""
    return 2 * (2 * asks + 2 * reads) * dim**2 + 4 * asks * reads * dim + 8 * asks * dim**2


@pytest.mark.parametrize("layers, from_layer, tokens", [(2, 0, 4), (4, 2, 4), (6, 3, 50)])
def test_a_bottleneck_costs_what_the_paper_says(layers: int, from_layer: int, tokens: int) -> None:
    """MBT: B more tokens a stream from `from_layer` on, not asked any more in the last layer."""
    dim = 64
    fusion = BottleneckFusion(dim, 4, ExactAttention, layers, from_layer, tokens).eval()
    expected = 0
    for i in range(layers):
        extra = tokens if i >= from_layer else 0
        asked = 0 if i + 1 == layers else extra
        expected += sum(_layer_flops(n + asked, n + extra, dim) for n in (98, 200))
    assert _flops(fusion, 98, 200) == pytest.approx(expected, rel=0.01)


def test_cross_with_every_weight_shared_is_concatenation(streams: tuple) -> None:
    """`shared` leaves a projection for each modality. With equal ones it is concat whose tokens are not marked."""
    cross = CrossFusion(DIM, HEADS, ExactAttention, shared=True).eval()
    concat = ConcatFusion(DIM, HEADS, ExactAttention).eval()
    of_concat = dict(concat.named_parameters())
    with torch.no_grad():
        for mark in concat.modality_embed.values():
            mark.zero_()
        for name, weight in cross.named_parameters():
            weight.copy_(of_concat[".".join(part for part in name.split(".") if part not in ("both", *MODALITIES))])
    found, expected = cross(*streams), concat(*streams)
    torch.testing.assert_close(found.video.values, expected.video.values, **TOLERANCE)
    torch.testing.assert_close(found.audio.values, expected.audio.values, **TOLERANCE)
    separate = CrossFusion(DIM, HEADS, ExactAttention)
    sizes = [sum(weight.numel() for weight in fusion.parameters()) for fusion in (concat, cross, separate)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_streams_meet_in_the_bottleneck_alone(streams: tuple) -> None:
    """A bottleneck that is cut (it reads nothing: its values are 0 for whom asks) leaves two streams apart."""
    fusion = BottleneckFusion(DIM, HEADS, ExactAttention, layers=3, from_layer=1).eval()
    video, audio = streams
    before, after = fusion(video, audio), fusion(video, _changed(audio, 3))
    assert (before.video.values - after.video.values).abs().max() > 1e-4
    alone = BottleneckFusion(DIM, HEADS, ExactAttention, layers=2).eval()
    first = next(iter(alone.blocks))
    with torch.no_grad():  # what the bottleneck becomes beside sound stays what it was: it receives nothing
        for parameter in (first["audio"].attn.out_proj, first["audio"].mlp.fc2):
            parameter.weight.zero_()
            parameter.bias.zero_()
    torch.testing.assert_close(
        alone(video, _changed(audio, 3)).video.values, alone(video, audio).video.values, **TOLERANCE
    )


def test_a_bottleneck_needs_a_layer_to_write_and_one_to_read() -> None:
    with pytest.raises(ValueError, match="at least two"):
        BottleneckFusion(DIM, HEADS, ExactAttention, layers=2, from_layer=1)


def test_concat_shares_its_weights_and_cross_does_not(tiny_config: Callable) -> None:
    sizes = {
        name: sum(p.numel() for p in build(tiny_config(f"fusion={name}")["fusion"]).parameters())
        for name in ("concat", "cross", "experts")
    }
    assert sizes["concat"] < sizes["experts"] < sizes["cross"]


def test_concat_tells_the_modalities_apart(streams: tuple) -> None:
    fusion = ConcatFusion(DIM, HEADS, ExactAttention).eval()
    one, other = streams[0], streams[0]
    fused = fusion(one, other)
    assert (fused.video.values - fused.audio.values).abs().max() > 1e-3


def test_an_expert_serves_its_modality_until_the_joint_layers(streams: tuple) -> None:
    fusion = ExpertsFusion(DIM, HEADS, ExactAttention, layers=2, joint_layers=1)
    assert [sorted(block.experts or ()) for block in fusion.blocks] == [["audio", "video"], []]
    with pytest.raises(ValueError, match="joint_layers=3"):
        ExpertsFusion(DIM, HEADS, ExactAttention, layers=2, joint_layers=3)


def test_a_gate_that_is_shut_lets_nothing_in(streams: tuple) -> None:
    fusion = GatedFusion(DIM, HEADS, ExactAttention, layers=1).eval()
    video, audio = streams
    unit = fusion.units[0]["video"]
    for bias, share in ((50.0, 1.0), (-50.0, 0.0)):
        with torch.no_grad():
            unit.gate.weight.zero_()
            unit.gate.bias.fill_(bias)
        fused = fusion(video, audio, frozenset({"mass"}))
        (layer,) = [layer for layer in fused.stats if layer.stream == "video"]
        torch.testing.assert_close(layer.mass["video"], torch.full_like(layer.mass["video"], share), **TOLERANCE)
        moved = (fusion(video, _changed(audio, 3)).video.values - fused.video.values).abs().max()
        assert (moved < 1e-6) == (share == 1.0)


def test_film_modulates_by_the_mean_of_the_other_stream(streams: tuple) -> None:
    """So the order of the other stream's tokens does not matter, in one layer."""
    fusion = FiLMFusion(DIM, HEADS, ExactAttention, layers=1).eval()
    with torch.no_grad():
        fusion.blocks[0]["video"].modulation.weight.normal_()
    video, audio = streams
    turned = Tokens(audio.values.flip(1), audio.keep, audio.times)
    before = fusion(video, audio).video.values
    torch.testing.assert_close(fusion(video, turned).video.values, before, **TOLERANCE)
    assert (fusion(video, _changed(audio, 3)).video.values - before).abs().max() > 1e-3


def test_low_rank_fusion_equals_the_full_tensor(streams: tuple) -> None:
    """h_k = sum_ij T_kij [p_v; 1]_i [p_a; 1]_j with T = sum_r w_v^r (x) w_a^r, the tensor written out in float64."""
    fusion = LowRankTensorFusion(DIM, HEADS, ExactAttention, rank=3).double()
    video, audio = torch.randn(CLIPS, DIM, dtype=torch.double), torch.randn(CLIPS, DIM, dtype=torch.double)
    factors = {
        name: torch.cat([f.weight, f.bias[:, None]], dim=1).unflatten(0, (3, DIM)) for name, f in fusion.factors.items()
    }
    tensor = torch.einsum("rki,rkj->kij", factors["video"], factors["audio"])
    one = torch.ones(CLIPS, 1, dtype=torch.double)
    expected = torch.einsum("kij,bi,bj->bk", tensor, torch.cat([video, one], 1), torch.cat([audio, one], 1))
    product = fusion.factors["video"](video) * fusion.factors["audio"](audio)
    torch.testing.assert_close(product.unflatten(1, (3, DIM)).sum(dim=1), expected)


def test_latents_cost_grows_linearly_with_the_streams() -> None:
    def at(length: int) -> int:
        return _flops(PerceiverFusion(DIM, HEADS, ExactAttention), length, length)

    assert at(2000) - at(1000) == at(1000) - (2 * at(1000) - at(2000))
    assert at(2000) / at(1000) < 2.0


def test_hierarchical_tokens_read_their_window_finely_and_others_through_means(streams: tuple) -> None:
    """Moving mass between tokens of a far window, its mean kept, changes nothing here in one layer; a near one does."""
    fusion = HierarchicalFusion(DIM, HEADS, ExactAttention, layers=1, window_s=1.0).eval()
    for block in fusion.fine:  # the far window's own block must not turn the swap into another mean
        with torch.no_grad():
            block.attn.out_proj.weight.zero_()
            block.mlp.fc2.weight.zero_()
    video, audio = streams
    far = audio.values.clone()
    shift = 2 * torch.randn(CLIPS, DIM)
    far[:, 21] += shift
    far[:, 22] -= shift
    swapped = Tokens(far, audio.keep, audio.times)
    before = fusion(video, audio).video.values
    torch.testing.assert_close(fusion(video, swapped).video.values, before, **TOLERANCE)
    assert (fusion(video, _changed(audio, 21)).video.values - before).abs().max() > 1e-4


def test_hierarchical_windows_are_cut_by_the_clip_alone(streams: tuple) -> None:
    fusion = HierarchicalFusion(DIM, HEADS, ExactAttention, window_s=0.73).eval()
    later = [Tokens(s.values, s.keep, s.times + 50.0) for s in streams]
    torch.testing.assert_close(
        fusion(*later).video.values, fusion(*streams).video.values, rtol=0, atol=1e-3
    )  # rotation of float32 times far from 0 is what the tolerance is for
    with pytest.raises(ValueError, match="window_s=0"):
        HierarchicalFusion(DIM, HEADS, ExactAttention, window_s=0)


def test_hierarchical_cost_follows_the_windows_not_the_square_of_the_length() -> None:
    def at(seconds: int) -> int:
        return _flops(HierarchicalFusion(DIM, HEADS, ExactAttention), 20 * seconds, 20 * seconds, seconds)

    assert at(60) < _flops(ConcatFusion(DIM, HEADS, ExactAttention), 1200, 1200, 60) / 10
    assert at(60) / at(30) < 2.3


def test_an_untrained_adapter_changes_nothing(streams: tuple) -> None:
    fusion = AdapterFusion(DIM, HEADS, ExactAttention)
    fused = fusion(*streams)
    assert torch.equal(fused.video.values, streams[0].values)
    assert torch.equal(fused.audio.values, streams[1].values)


def test_recurrence_reads_in_the_order_of_time(streams: tuple) -> None:
    fusion = RecurrentFusion(DIM).eval()
    video, audio = streams
    order = torch.randperm(AUDIO, generator=torch.Generator().manual_seed(4))
    moved = Tokens(audio.values[:, order], audio.keep[:, order], audio.times[:, order])
    before = fusion(video, audio)
    torch.testing.assert_close(fusion(video, moved).video.values, before.video.values, **TOLERANCE)
    torch.testing.assert_close(fusion(video, moved).audio.values, before.audio.values[:, order], **TOLERANCE)
    backwards = Tokens(audio.values, audio.keep, -audio.times)
    assert (fusion(video, backwards).video.values - before.video.values).abs().max() > 1e-3


@pytest.mark.parametrize(
    "overrides, words",
    [
        (("fusion=bottleneck", "fusion.tokens=0"), "tokens=0"),
        (("fusion=bottleneck", "fusion.mlp_ratio=0"), "mlp_ratio=0"),
        (("fusion=tensor", "fusion.rank=0"), "rank=0"),
        (("fusion=perceiver", "fusion.latents=0"), "latents=0"),
        (("fusion=adapter", "fusion.reduction=0"), "reduction=0"),
        (("fusion=recurrent", "dim=15", "heads=3"), "dim=15"),
        (("fusion=concat", "fusion.layers=0"), "layers=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_config: Callable, overrides: tuple, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(tiny_config(*overrides)["fusion"])


def test_the_table_has_a_line_for_each_strategy() -> None:
    lines = {line.split()[0]: line for line in table().splitlines() if line}
    assert set(group_choices("fusion")) <= set(lines)
    assert not any("does not build" in line for line in lines.values())
