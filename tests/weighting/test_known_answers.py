"""Every weighting on readers whose answer is known, over the four families of tags that AVShapes has."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.fusion.interface import Fusion
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Tokens
from mmattn.weighting.evaluation import Evaluation

FAMILIES = {"dot": "picture", "beep": "sound", "dog": "redundant", "in_time": "synergy"}
VOCABULARY = TagVocabulary(tuple(FAMILIES), families=FAMILIES)
CLIPS, TOKENS = 240, 3


class Seen(VisualEncoder):
    """Three tokens, for what is in the picture of: dot, dog, the beat that is seen."""

    dim = 1

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(batch.frames[:, :, 0, 0, :1].float(), batch.frame_keep, batch.frame_times)


class Heard(AudioEncoder):
    """Three tokens, for what is in the sound of: beep, dog, the beat that is heard."""

    dim = 1

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(batch.spectrogram[:, :, :1], batch.spectrogram_keep, batch.spectrogram_times)


class Reader(Fusion):
    """What is missing reads 1/2: it says nothing. Each tag is read by its family's rule."""

    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        seen, heard = (self._three(tokens) for tokens in (video, audio))
        rules = [
            seen[:, 0],
            heard[:, 0],
            (seen[:, 1] + heard[:, 1] - 0.5).clamp(0, 1),
            (seen * 2 - 1)[:, 2] * (heard * 2 - 1)[:, 2] / 2 + 0.5,
        ]
        return Fused(replace(video, values=torch.stack(rules, dim=1)[..., None]), audio)

    def _three(self, tokens: Tokens) -> Tensor:
        values = tokens.values[..., 0].masked_fill(~tokens.keep, 0.5)
        return torch.cat([values, values.new_full((len(values), TOKENS), 0.5)], dim=1)[:, :TOKENS]


class Say(Task):
    vocabulary = VOCABULARY

    def forward(self, fused: Fused) -> Tensor:
        return fused.video.values[..., 0]

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        return logits


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    generator = torch.Generator().manual_seed(0)
    facts = torch.rand(CLIPS, 5, generator=generator) < 0.5  # dot, beep, dog, beat seen, beat heard
    dot, beep, dog, beat_seen, beat_heard = facts.unbind(dim=1)
    seen = torch.stack([dot, dog, beat_seen], dim=1).to(torch.uint8)
    heard = torch.stack([beep, dog, beat_heard], dim=1).float()
    times = torch.zeros(CLIPS, TOKENS)
    keep = torch.ones(CLIPS, TOKENS, dtype=torch.bool)
    batch = Batch(
        frames=seen[:, :, None, None, None].expand(-1, -1, 3, 1, 1).clone(),
        frame_keep=keep,
        frame_times=times,
        spectrogram=heard[..., None],
        spectrogram_keep=keep,
        spectrogram_times=times,
        ids=tuple(f"{i:03d}" for i in range(CLIPS)),
        targets={"tags": torch.stack([dot, beep, dog, beat_seen == beat_heard], dim=1).float()},
    )
    evaluation = Evaluation(VOCABULARY, permutations=True)
    evaluation.update(AVModel(Seen(), Heard(), Reader(), Say()), batch)
    return evaluation


@pytest.fixture(scope="module")
def record(evaluation: Evaluation) -> dict:
    return evaluation.result(resampled=300)


def test_each_family_owes_its_score_to_what_it_should(record: dict) -> None:
    splits = record["shapley_by_family"]
    for family, (own, other) in {"picture": ("video", "audio"), "sound": ("audio", "video")}.items():
        split = splits[family]
        assert split[own] / (split["video"] + split["audio"]) == 1 and split[other] == 0, family
        assert split["interval"][other] == [0, 0] and split["interval"][own][0] > 0.3
        assert split["synergy"] == 0
    assert splits["redundant"]["video"] == splits["redundant"]["audio"] > 0.2
    assert splits["redundant"]["interval"]["synergy"][1] < -0.3, "either suffices"
    assert splits["synergy"]["interval"]["synergy"][0] > 0.3, "only both suffice"
    assert splits["synergy"]["video"] == pytest.approx(splits["synergy"]["audio"])


def test_intervals_hold_the_value_and_narrow_with_more_clips(record: dict) -> None:
    for group in ("shapley_by_family", "shapley_by_tag"):
        for split in record[group].values():
            for part, (low, high) in split["interval"].items():
                assert low <= split[part] <= high and high - low < 0.2
    low, high = record["shapley"]["interval"]["synergy"]
    assert low <= record["shapley"]["synergy"] <= high
    assert record["resampled"] == 300


def test_exchanging_a_modality_costs_the_tags_that_are_read_from_it(record: dict) -> None:
    lost = {modality: record["permutation"][modality]["by_tag"] for modality in ("video", "audio")}
    assert lost["audio"]["dot"] == 0 and lost["video"]["beep"] == 0, "exactly"
    for modality, tags in (("video", ("dot", "in_time")), ("audio", ("beep", "in_time"))):
        assert all(lost[modality][tag] > 0.3 for tag in tags)
    assert 0 < lost["video"]["dog"] < lost["video"]["dot"]


def test_each_clip_has_its_own_split(evaluation: Evaluation, record: dict) -> None:
    clips = evaluation.clips()
    assert json.loads(json.dumps(clips, allow_nan=False)) == clips
    assert [clip["id"] for clip in clips] == sorted(clip["id"] for clip in clips) and len(clips) == CLIPS
    for clip in clips:
        value = clip["value"]
        if not clip["tags"]:
            assert value["both"] is None and clip["video"] is None
            continue
        assert clip["video"] + clip["audio"] == pytest.approx(value["both"] - value["none"])
        assert value["both"] == 1 and value["none"] == 0.5
        if clip["tags"] == ["dot"]:
            assert (clip["video"], clip["audio"], clip["synergy"]) == (0.5, 0.0, 0.0)
        if clip["tags"] == ["in_time"]:
            assert (clip["video"], clip["audio"], clip["synergy"]) == (0.25, 0.25, 0.5)
        assert clip["confusion"] == {"video": [], "audio": []}
    tagged = [clip for clip in clips if clip["tags"]]
    mean = record["shapley_by_clip"]
    for part in ("video", "audio", "synergy"):
        assert mean[part] == pytest.approx(sum(clip[part] for clip in tagged) / len(tagged))
        low, high = mean["interval"][part]
        assert low <= mean[part] <= high
