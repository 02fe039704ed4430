"""Who hears of whom: from any token of one stream to the other stream at any time, for every fusion and attention.

A clip of 12 s, 6 pictures and 12 sound tokens, one of each padding, in float64: a gradient is 0 exactly where the
definition lets nothing through, and well above 0 wherever it does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from mmattn.attention.interface import Attention, Geometry
from mmattn.cli.main import main
from mmattn.config.compose import Config, build, group_choices, read_choice
from mmattn.errors import UsageError
from mmattn.fusion.blocks.multi_head import MergedAttention, ReadingAttention
from mmattn.fusion.catalogue.reach import reach
from mmattn.fusion.interface import Fusion
from mmattn.types import Modality, Tokens

DIM, HEADS = 8, 2
FUSIONS = [name for name in group_choices("fusion") if name != "recurrent"]
ATTENTIONS = group_choices("attention")
# Narrow enough for this clip, where an attention's definition leaves pairs out by time or place.
SETTINGS = {
    "time_window": ["pattern.past_s=1.6", "pattern.future_s=0.8"],
    "sliding": ["pattern.past=1", "pattern.future=0"],
    "dilated": ["pattern.past=1", "pattern.future=1", "pattern.dilation=2"],
    "global_local": ["pattern.past=0", "pattern.future=1", "pattern.global_tokens=1"],
    "strided": ["pattern.stride=4"],
    "bigbird": ["pattern.block=2", "pattern.past=0", "pattern.future=0", "pattern.random=1", "pattern.global_tokens=1"],
    "gated_linear": ["causal=true"],
}
SMALL = {"nystrom": ["landmarks=6"], "linformer": ["rank=6", "positions=12"]}  # or they take most of the time
LAYERS = {"bottleneck": 2, "adapter": 2}  # one to write what is between the streams, one to read it
STREAMS: dict[Modality, Tokens] = {
    "video": Tokens(torch.zeros(1, 6, DIM), torch.arange(6)[None] != 2, 2 * torch.arange(6.0)[None] + 0.3),
    "audio": Tokens(torch.zeros(1, 12, DIM), torch.arange(12)[None] != 7, torch.arange(12.0)[None]),
}


@cache
def spec(group: str, name: str) -> Config:
    settings = OmegaConf.from_dotlist({**SETTINGS, **SMALL}.get(name, []))
    return OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(read_choice(group, name)), settings))  # type: ignore


def made(fusion: str, attention: str, layers: int | None = None) -> Fusion:
    """With queries near 0, so that no normaliser leaves a key out for its score, and gates that let through."""
    chosen = {"attention": spec("attention", attention), "position": spec("position", "rotary")}
    given = {"dim": DIM, "heads": HEADS, "dropout": 0.0, **chosen}
    given["layers"] = layers or LAYERS.get(fusion, 1)
    torch.manual_seed(3)
    built = build({key: given.get(key, value) for key, value in spec("fusion", fusion).items()}).double().eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("gate") and parameter.dim() == 0:
                parameter.fill_(1.0)
        for part in built.modules():
            if isinstance(part, (MergedAttention, ReadingAttention)):
                part.q_proj.weight.mul_(0.01)
                part.q_proj.bias.zero_()
    return built


def clip(names: tuple[Modality, ...] = ("video", "audio")) -> dict[Modality, Tokens]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: Tokens(torch.randn(one.values.shape, generator=generator).double(), one.keep, one.times)
        for name, one in STREAMS.items()
    }


@cache
def reads(attention: str, asks: tuple[Modality, ...], told: tuple[Modality, ...]) -> Tensor:
    """Which keys a query reads in one layer: what the mechanism says of its pairs; all, where it leaves none out."""
    sides = []
    for names in (asks, told):
        parts = [STREAMS[name] for name in names]
        keep, times = torch.cat([part.keep for part in parts], 1), torch.cat([part.times for part in parts], 1)
        sides.append(Geometry(keep, times, tuple((n, STREAMS[n].keep.shape[1]) for n in names)))
    queries, keys = sides
    assert queries.keep is not None and keys.keep is not None and queries.time is not None and keys.time is not None
    all_real = queries.keep[0, :, None] & keys.keep[0]
    if attention == "gated_linear":  # causal, see SETTINGS
        return all_real & (keys.time[0] <= queries.time[0, :, None])
    mechanism: Attention = build(spec("attention", attention))(HEADS, DIM // HEADS).double()
    if "weights" not in mechanism.supports:
        return all_real
    q, k = (torch.zeros(1, HEADS, side.keep.shape[1], DIM // HEADS).double() for side in sides)
    weights = mechanism(q, k, k, queries, keys, frozenset({"weights"})).stats["weights"][0]
    return weights.ne(0).any(dim=0) & all_real


def expected(fusion: str, attention: str, stream: Modality) -> Tensor:
    """Which tokens of the other stream a token of `stream` hears of, by the fusions' definitions."""
    other: Modality = "audio" if stream == "video" else "video"
    length, others = STREAMS[stream].keep.shape[1], STREAMS[other].keep.shape[1]
    all_real = STREAMS[stream].keep[0, :, None] & STREAMS[other].keep[0]
    if fusion == "late":
        return torch.zeros_like(all_real)
    if fusion == "cross":  # one layer: what is read
        return reads(attention, (stream,), (stream, other))[:, length:]
    if fusion in ("concat", "experts"):
        both = reads(attention, ("video", "audio"), ("video", "audio"))
        return both[:length, length:] if stream == "video" else both[others:, :others]
    if fusion == "gated":  # the other stream reads itself, then is read
        within = reads(attention, (other,), (other,)) | torch.eye(others, dtype=torch.bool)
        return (reads(attention, (stream,), (other,)).double() @ within.double()).bool() & all_real
    return all_real  # by means over time, or by tokens that neither order nor windows bind


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_token_hears_of_those_that_the_definition_says_and_of_no_other(fusion: str, attention: str) -> None:
    streams = clip()
    found = reach(made(fusion, attention), streams, {name: range(one.keep.shape[1]) for name, one in streams.items()})
    for stream, strength in found.items():
        meets = expected(fusion, attention, stream)
        assert not strength[~meets].any(), f"{stream} hears of what it may not"
        assert (strength[meets] > 1e-9).all(), f"{stream} does not hear of all that it should"


def test_the_definitions_here_do_leave_pairs_out_and_let_pairs_through() -> None:
    """A window of time in numbers; and no attention that is bound by time or place passes for one that reads all."""
    video, audio = STREAMS["video"], STREAMS["audio"]
    apart = audio.times[0] - video.times[0, :, None]
    window = (apart >= -1.6) & (apart <= 0.8) & video.keep[0, :, None] & audio.keep[0]
    assert torch.equal(expected("cross", "time_window", "video"), window)
    for attention in ATTENTIONS:
        share = expected("cross", attention, "video")[video.keep[0]][:, audio.keep[0]].double().mean()
        assert (0 < share < 1) if attention in SETTINGS else share == 1, attention


@pytest.mark.parametrize("fusion", ["perceiver", "bottleneck", "hierarchical", "adapter"])
def test_what_stands_between_the_streams_reaches_far_as_strongly_as_near(fusion: str) -> None:
    """Under an attention that forgets, too: what is 6 s and more away counts as what is 1.5 to 4 s away."""
    found = reach(made(fusion, "gated_linear"), clip(), {"video": range(6), "audio": range(12)})
    for stream, strength in found.items():
        own, other = STREAMS[stream], STREAMS["audio" if stream == "video" else "video"]
        apart = (own.times[0, :, None] - other.times[0]).abs()
        meets = own.keep[0, :, None] & other.keep[0]
        far, near = strength[meets & (apart >= 6)].mean(), strength[meets & (apart > 1.5) & (apart < 4)].mean()
        assert far > near / 3, stream


@pytest.mark.parametrize("attention", ["dense", "time_window", "gru"])
def test_a_fusion_without_attention_says_so_where_one_is_given(attention: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "data=avshapes", "fusion=recurrent", f"attention={attention}"]) == 2
    told = capsys.readouterr().err
    assert told == f"mmattn: attention={attention}: RecurrentFusion takes no attention; leave it out\n"


def test_a_setting_of_the_attention_counts_as_one(tiny_config: Callable) -> None:
    with pytest.raises(UsageError, match=r"attention\.cudnn=true: RecurrentFusion takes no attention"):
        tiny_config("fusion=recurrent", "attention.cudnn=true")
    with pytest.raises(UsageError, match=r"position=alibi: RecurrentFusion takes no attention"):
        tiny_config("fusion=recurrent", "position=alibi")
    assert "attention" not in tiny_config("fusion=recurrent")["fusion"]


def test_the_matrix_has_every_pair_and_the_reason_of_each_that_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "fusion", "attention"]) == 0
    told = capsys.readouterr().out
    assert told.endswith("\nrecurrent takes no attention\n")
    header, *lines = told.splitlines()
    cells = {line.split()[0]: dict(zip(header.split()[1:], line.split()[1:], strict=True)) for line in lines[:26]}
    assert set(cells) == set(ATTENTIONS)
    for attention, row in cells.items():
        assert set(row) == {*FUSIONS, "recurrent"}
        assert (row.pop("recurrent"), row.pop("late")) == ("-", "0")
        for fusion, percent in row.items():
            assert int(percent) > 0
            if fusion in ("film", "tensor") or (attention not in ("entmax", "sparsemax") and fusion not in (
                "cross", "concat", "experts", "gated"
            )):  # fmt: skip
                assert percent == "100", (fusion, attention)
    assert int(cells["time_window"]["cross"]) < 20
