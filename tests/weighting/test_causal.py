"""Shapley splits on models whose answer is known: readers of sound alone, of picture alone, of both, of either."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmattn.config.compose import group_choices
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.errors import MmattnError
from mmattn.fusion.interface import Fusion
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Tokens
from mmattn.weighting.causal import SUBSETS, _exchanged, shapley, subset_scores
from mmattn.weighting.evaluation import Evaluation

TAG = TagVocabulary(("tag", "never"), families={"tag": "known"})
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "video": lambda video, audio: video,
    "audio": lambda video, audio: audio,
    "and": lambda video, audio: video * audio,
    "xor": lambda video, audio: (video - audio).abs(),
    "either": torch.maximum,
}


class Bright(VisualEncoder):
    """A token a frame: 1 for white, 0 for black."""

    dim = 1

    def forward(self, batch: Batch) -> Tokens:
        values = batch.frames.float().mean(dim=(2, 3, 4))[..., None] / 255
        return Tokens(values, batch.frame_keep, batch.frame_times)


class Loud(AudioEncoder):
    """A token a row: 1 for loud, 0 for quiet."""

    dim = 1

    def forward(self, batch: Batch) -> Tokens:
        return Tokens(batch.spectrogram.mean(2, True), batch.spectrogram_keep, batch.spectrogram_times)


class Rule(Fusion):
    """Applies a rule to what it sees and hears; what is missing reads 0."""

    def __init__(self, rule: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        seen, heard = ((tokens.values * tokens.keep[..., None]).amax(dim=1) for tokens in (video, audio))
        return Fused(replace(video, values=self.rule(seen, heard)[:, None]), audio)


class Same(Task):
    vocabulary = TAG

    def forward(self, fused: Fused) -> Tensor:
        return fused.video.values[:, 0].expand(-1, 2)

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        return logits


def _evaluate(rule: str, events: list[tuple[int, int]], make_batch: Callable, permutations: bool = False) -> dict:
    """Evaluate a rule's reader on clips of (bright, loud), tagged by the rule."""
    model = AVModel(Bright(), Loud(), Rule(RULES[rule]), Same())
    batch = make_batch(len(events))
    seen, heard = torch.tensor(events, dtype=torch.float32).T
    target = RULES[rule](seen, heard)
    frames = (255 * seen).to(torch.uint8)[:, None, None, None, None].expand_as(batch.frames).clone()
    rows = heard[:, None, None].expand_as(batch.spectrogram).clone()
    targets = {"tags": torch.stack([target, torch.zeros_like(target)], dim=1)}
    evaluation = Evaluation(TAG, permutations)
    evaluation.update(model, replace(batch, frames=frames, spectrogram=rows, targets=targets))
    return evaluation.result()


ALL = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("rule", "events", "video", "audio", "synergy"),
    [
        # Average precision is 1 where the reader gets all it needs, else the share of positives: it cannot tell.
        ("video", ALL, 0.5, 0.0, 0.0),
        ("audio", ALL, 0.0, 0.5, 0.0),
        ("xor", ALL, 0.25, 0.25, 0.5),
        ("and", ALL, 0.375, 0.375, 0.75),
        ("either", [(0, 0), (1, 1)], 0.25, 0.25, -0.5),
    ],
)
def test_a_reader_is_credited_with_what_it_reads(
    rule: str, events: list, video: float, audio: float, synergy: float, make_batch: Callable
) -> None:
    result = _evaluate(rule, events, make_batch)
    for split in (result["shapley"], result["shapley_by_tag"]["tag"], result["shapley_by_family"]["known"]):
        assert (split["video"], split["audio"], split["synergy"]) == pytest.approx((video, audio, synergy), abs=1e-7)
        assert split["value"]["both"] == 1
    if rule in ("video", "audio"):
        other = {"video": "audio", "audio": "video"}[rule]
        assert result["shapley"][other] == 0, "exactly, not nearly"


def test_efficiency_and_symmetry() -> None:
    """The two parts share out exactly what both are worth; to swap the players is to swap the parts."""
    value = {subset: torch.randn(50, dtype=torch.float64) for subset in SUBSETS}
    split = shapley(value)
    torch.testing.assert_close(split.video + split.audio, value["both"] - value["none"], rtol=0, atol=1e-12)
    swapped = shapley({**value, "video": value["audio"], "audio": value["video"]})
    assert torch.equal(swapped.video, split.audio)
    torch.testing.assert_close(swapped.synergy, split.synergy, rtol=0, atol=1e-12)
    interaction = value["both"] - value["video"] - value["audio"] + value["none"]
    torch.testing.assert_close(split.synergy, interaction, rtol=0, atol=1e-12)


ATTENDING = [("cross", name) for name in group_choices("attention") if name != "dense"]


@pytest.mark.parametrize(
    ("fusion", "attention"), [(name, "dense") for name in group_choices("fusion") if name != "recurrent"] + ATTENDING
)
def test_a_subset_is_the_model_on_clips_that_lack_the_rest(
    fusion: str, attention: str, tiny_model: Callable, make_batch: Callable
) -> None:
    model = tiny_model(f"fusion={fusion}", f"attention={attention}")
    batch = make_batch(3, missing={1: "audio"})
    with torch.no_grad():
        video, audio = model.encode(batch)
        found = subset_scores(model, video, audio, model.fuse(video, audio))
        blind, silent = torch.zeros_like(batch.frame_keep), torch.zeros_like(batch.spectrogram_keep)
        cut = {
            "none": replace(batch, frame_keep=blind, spectrogram_keep=silent),
            "video": replace(batch, spectrogram_keep=silent),
            "audio": replace(batch, frame_keep=blind),
            "both": batch,
        }
        for subset in SUBSETS:
            expected = model.task.scores(model(cut[subset]))
            torch.testing.assert_close(found[subset], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["both"][1], found["video"][1], rtol=0, atol=1e-6)  # it has no sound to lose
    split = shapley(found)
    assert split.audio[1].abs().max() < 1e-6, "sound that is not there is worth nothing"


@pytest.mark.parametrize("fusion", group_choices("fusion"))
def test_parts_of_an_evaluation_merge_to_the_whole(fusion: str, tiny_model: Callable, make_batch: Callable) -> None:
    model = tiny_model(f"fusion={fusion}")
    batches = [replace(make_batch(3, seed=i), ids=tuple(f"{i}/{k}" for k in range(3))) for i in range(4)]
    whole, parts = Evaluation(model.task.vocabulary), [Evaluation(model.task.vocabulary) for _ in range(2)]
    for i, batch in enumerate(batches):
        fused = whole.update(model, batch)
        assert not fused.video.values.requires_grad
        logits = model.task(fused).detach()
        torch.testing.assert_close(logits, model(batch).detach(), rtol=0, atol=1e-5)
        parts[i % 2].update(model, batch)
    merged = Evaluation(model.task.vocabulary)
    merged.merge(parts)
    one, other = whole.result(), merged.result()
    assert one["clips"] == 12
    assert _rounded(one) == _rounded(other)


def test_clips_that_are_not_real_are_not_measured(tiny_model: Callable, make_batch: Callable) -> None:
    model = tiny_model("fusion=cross")
    whole, without = Evaluation(model.task.vocabulary), Evaluation(model.task.vocabulary)
    batch = make_batch(3)
    gone = torch.tensor([False, False, True])
    missing = replace(
        batch,
        frame_keep=batch.frame_keep & ~gone[:, None],
        spectrogram_keep=batch.spectrogram_keep & ~gone[:, None],
        real=~gone,
    )
    without.update(model, missing)
    whole.update(model, make_batch(3))
    pair = Evaluation(model.task.vocabulary)
    pair.update(model, _first(batch, 2))
    assert without.result()["clips"] == 2 and whole.result()["clips"] == 3
    assert _rounded(without.result(), 4) == _rounded(pair.result(), 4)
    empty = Evaluation(model.task.vocabulary)
    empty.update(model, replace(missing, real=torch.zeros(3, dtype=torch.bool)))
    with pytest.raises(MmattnError, match="none of the clips"):
        empty.result()


def _first(batch: Batch, clips: int) -> Batch:
    cut = {name: value[:clips] for name, value in vars(batch).items() if isinstance(value, torch.Tensor | tuple)}
    return Batch(**cut, targets={name: value[:clips] for name, value in batch.targets.items()})


def _rounded(node: object, digits: int = 9) -> object:
    if isinstance(node, dict):
        return {key: _rounded(value, digits) for key, value in node.items()}
    if isinstance(node, list):
        return [_rounded(value, digits) for value in node]
    return round(node, digits) if isinstance(node, float) else node


def test_a_result_is_plain_json_and_says_null_where_there_is_no_answer(make_batch: Callable) -> None:
    result = _evaluate("audio", ALL, make_batch)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["metrics"]["ap"]["never"] is None
    assert result["shapley_by_tag"]["never"]["video"] is None
    assert result["metrics"]["mAP"] == 1
    assert result["metrics"]["chance_mAP"] == 0.5


@pytest.mark.parametrize(("rule", "misled"), [("video", (0.0, 0.0)), ("hides", (1.0, 0.0))])
def test_confusion_counts_whom_the_other_modality_misled(rule: str, misled: tuple, make_batch: Callable) -> None:
    """ "hides": picture alone tells, but sound silences the answer; both are wrong where picture alone is right."""
    rules = {"video": RULES["video"], "hides": lambda video, audio: video * (1 - audio)}
    model = AVModel(Bright(), Loud(), Rule(rules[rule]), Same())
    batch = make_batch(2)
    frames = torch.full_like(batch.frames, 255)
    targets = {"tags": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}
    evaluation = Evaluation(TAG)
    evaluation.update(
        model, replace(batch, frames=frames, spectrogram=torch.ones_like(batch.spectrogram), targets=targets)
    )
    found = evaluation.result()["confusion"]
    assert (found["video"]["all"], found["audio"]["all"]) == misled
    assert found["video"]["by_question"]["tag"] == misled[0]
    assert found["video"]["by_question"][TAG.names[1]] is None, "nobody asked"
    never_said, always_said = (evaluation.result(thresholds={"tag": value}) for value in (1.1, -1.0))
    assert never_said["confusion"]["video"]["all"] == always_said["confusion"]["video"]["all"] == 0.0
    by_clip = evaluation.clips({"tag": 1.1})
    assert not any(clip["confusion"]["video"] for clip in by_clip)


def test_permuting_costs_a_reader_what_it_reads_and_nothing_else(make_batch: Callable) -> None:
    """Two bright and two dark clips: exchanged, average precision falls; what is not read may be exchanged freely."""
    events = [(0, 1), (0, 0), (0, 1), (1, 0), (1, 1), (1, 0)]
    found = _evaluate("video", events, make_batch, permutations=True)["permutation"]
    assert found["audio"] == {"value": 1.0, "score": 0.0, "by_tag": {"tag": 0.0, "never": None}}
    assert found["video"]["value"] < 1.0 and found["video"]["score"] == 1.0 - found["video"]["value"]
    assert found == _evaluate("video", events, make_batch, permutations=True)["permutation"], "the same again"
    assert "permutation" not in _evaluate("video", events, make_batch)


def test_only_clips_with_a_modality_exchange_it_and_none_keeps_its_own() -> None:
    values = torch.arange(6.0)[:, None, None].expand(6, 2, 1)
    keep = torch.ones(6, 2, dtype=torch.bool)
    keep[[1, 4]] = False
    exchanged = _exchanged(Tokens(values, keep, torch.zeros(6, 2)), torch.Generator().manual_seed(0))
    assert torch.equal(exchanged.keep, keep)
    new = exchanged.values[:, 0, 0]
    assert sorted(new.tolist()) == [0, 1, 2, 3, 4, 5]
    assert all(float(new[i]) != i for i in (0, 2, 3, 5)) and float(new[1]) == 1
    alone = Tokens(values[:1], keep[:1], torch.zeros(1, 2))
    assert torch.equal(_exchanged(alone, torch.Generator()).values, alone.values)
