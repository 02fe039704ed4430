"""Attention mass, averaged: equal to a plain mean over explicit weights, whichever way the clips are fed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmattn.attention.exact.dense import DenseAttention
from mmattn.attention.interface import Geometry
from mmattn.types import LayerStats
from mmattn.weighting.descriptive import MassMeter

B, H, LQ, VIDEO, AUDIO, D = 6, 2, 5, 4, 7, 8


def _clips(seed: int = 0) -> tuple[LayerStats, Tensor, Tensor, Tensor]:
    """A layer's stats on random clips (clip 2 has no sound, clip 3 no query), its weights, its query and key masks."""
    torch.manual_seed(seed)
    q, k = torch.randn(B, H, LQ, D), torch.randn(B, H, VIDEO + AUDIO, D)
    query_keep = torch.rand(B, LQ) < 0.7
    query_keep[:, 0], query_keep[3] = True, False
    keep = torch.rand(B, VIDEO + AUDIO) < 0.8
    keep[:, 0] = keep[:, -1] = True
    keep[2, VIDEO:] = False
    keys = Geometry(keep, None, (("video", VIDEO), ("audio", AUDIO)))
    stats = DenseAttention(1, 1)(q, k, k, Geometry(query_keep), keys, frozenset({"mass", "weights"})).stats
    counts = {"video": keep[:, :VIDEO].sum(1).float(), "audio": keep[:, VIDEO:].sum(1).float()}
    prior = {name: count / keep.sum(1) for name, count in counts.items()}
    mass = {"video": stats["mass"][..., 0], "audio": stats["mass"][..., 1]}
    return LayerStats("cross.0", "video", query_keep, mass, prior), stats["weights"], query_keep, keep


def test_the_mean_over_clips_is_that_of_the_explicit_weights() -> None:
    layer, weights, query_keep, keep = _clips()
    meter = MassMeter()
    meter.update([layer])
    records = meter.result()
    assert [record["head"] for record in records] == list(range(H))
    counted = [clip for clip in range(B) if clip not in (2, 3)]
    for head, record in enumerate(records):
        on_audio = [
            sum(float(weights[b, head, i, VIDEO:].sum()) for i in range(LQ) if query_keep[b, i])
            / int(query_keep[b].sum())
            for b in counted
        ]
        prior = [float(keep[b, VIDEO:].sum() / keep[b].sum()) for b in counted]
        assert record["mass"]["audio"] == pytest.approx(sum(on_audio) / len(counted), abs=1e-6)
        assert record["prior"]["audio"] == pytest.approx(sum(prior) / len(counted), abs=1e-6)
        assert sum(record["mass"].values()) == pytest.approx(1, abs=1e-6)
        assert sum(record["prior"].values()) == pytest.approx(1, abs=1e-6)
        for name, ratio in record["log_ratio"].items():
            assert ratio == pytest.approx(math.log(record["mass"][name] / record["prior"][name]))


def test_parts_merge_to_the_whole_and_clips_may_come_one_by_one() -> None:
    layers = [_clips(seed)[0] for seed in range(4)]
    whole, first, second, single = (MassMeter() for _ in range(4))
    whole.update(layers)
    first.update(layers[:1])
    second.update(layers[1:])
    first.merge(second)
    for layer in layers:
        for clip in range(B):
            single.update([layer.one(clip)])
    for other in (first, single):
        for one, two in zip(whole.result(), other.result(), strict=True):
            assert one["mass"] == pytest.approx(two["mass"], abs=1e-9)
            assert one["prior"] == pytest.approx(two["prior"], abs=1e-6)
    empty = MassMeter()
    empty.merge(whole)
    assert empty.result() == whole.result()


def test_uniform_attention_has_a_log_ratio_of_zero() -> None:
    """What the prior is for: 7 sound tokens among 11 draw 64 % of the mass without any preference."""
    keep = torch.ones(1, LQ, dtype=torch.bool)
    keys = Geometry(None, None, (("video", VIDEO), ("audio", AUDIO)))
    zeros = torch.zeros(1, 1, VIDEO + AUDIO, D)
    mass = DenseAttention(1, 1)(zeros[:, :, :LQ], zeros, zeros, Geometry(keep), keys, frozenset({"mass"})).stats["mass"]
    prior = {"video": torch.tensor([VIDEO / (VIDEO + AUDIO)]), "audio": torch.tensor([AUDIO / (VIDEO + AUDIO)])}
    meter = MassMeter()
    meter.update([LayerStats("cross.0", "audio", keep, {"video": mass[..., 0], "audio": mass[..., 1]}, prior)])
    (record,) = meter.result()
    assert record["mass"]["audio"] == pytest.approx(7 / 11)
    assert record["log_ratio"] == pytest.approx({"video": 0.0, "audio": 0.0}, abs=1e-6)


def test_streams_that_read_one_modality_have_nothing_to_weigh(tiny_model: Callable, make_batch: Callable) -> None:
    meters = {}
    for name in ("late", "cross"):
        model, meters[name] = tiny_model(f"fusion={name}"), MassMeter()
        fused = model.fuse(*model.encode(make_batch(3, missing={1: "audio"})), frozenset({"mass"}))
        meters[name].update(fused.stats)
    assert meters["late"].result() == []
    assert {record["stream"] for record in meters["cross"].result()} == {"video", "audio"}
    assert meters["cross"].result()[0]["mass"]["audio"] > 0


def test_clips_that_lack_a_modality_leave_no_trace() -> None:
    layer = _clips()[0]
    meter = MassMeter()
    meter.update([layer.one(2), layer.one(3)])
    assert meter.result() == []


def test_entropy_and_lag_are_means_over_real_queries() -> None:
    layer = _clips()[0]
    entropy, lag = torch.rand(B, H, LQ), torch.randn(B, H, LQ)
    meter = MassMeter()
    meter.update([replace(layer, entropy=entropy, lag=lag)])
    counted = [clip for clip in range(B) if clip not in (2, 3)]
    for head, record in enumerate(meter.result()):
        for name, value in (("entropy", entropy), ("lag_s", lag), ("distance_s", lag.abs())):
            clips = [float(value[b, head, layer.query_keep[b]].mean()) for b in counted]
            assert record[name] == pytest.approx(sum(clips) / len(clips), abs=1e-6)
    assert "entropy" not in _meter_of(layer).result()[0]


def _meter_of(layer: LayerStats) -> MassMeter:
    meter = MassMeter()
    meter.update([layer])
    return meter
