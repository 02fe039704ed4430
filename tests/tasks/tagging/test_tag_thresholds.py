"""Thresholds of free tags: chosen on validation clips, kept with the model, the same however clips were shared out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmattn.checkpoint import METADATA_KEY, MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.tasks.tagging.tagging import Tagging
from mmattn.weighting.evaluation import Evaluation

SCORES = torch.tensor([[0.9, 0.3, 0.8, 0.1, 0.1], [0.3, 0.2, 0.2, 0.7, 0.1], [0.2, 0.1, 0.2, 0.7, 0.1]])
TARGETS = torch.tensor([[1.0, 0, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 1, 0]])


def test_the_goal_decides_and_groups_have_none(vocabulary: TagVocabulary) -> None:
    found = {goal: Tagging(4, vocabulary, calibrate=goal).thresholds(SCORES, TARGETS) for goal in ("f1", "none", 0.9)}
    assert found["f1"] == {"beep": pytest.approx(0.25), "red": pytest.approx(0.15)}
    assert found["none"] == {}
    assert found[0.9] == {"beep": pytest.approx(0.25)}, "red is never right so often"
    assert Tagging(4, vocabulary, calibrate="0.9").thresholds(SCORES, TARGETS) == found[0.9]
    nowhere = Tagging(4, vocabulary, calibrate="f1").thresholds(SCORES, torch.zeros_like(TARGETS))
    assert nowhere == {}, "no clip has them"


@pytest.mark.parametrize("goal", ["best", 0.0, 1.5, "nan"])
def test_a_goal_that_makes_no_sense_is_refused(goal: str | float, vocabulary: TagVocabulary) -> None:
    with pytest.raises(UsageError, match=r"task\.calibrate"):
        Tagging(4, vocabulary, calibrate=goal)


def test_thresholds_travel_with_the_model(tiny_model: Callable, tiny_config: Callable, tmp_path: Path) -> None:
    model, clip = tiny_model(), ClipSpec(seconds=1.0, mels=12)
    path = tmp_path / MODEL_FILE
    save_model(path, Checkpoint(model, tiny_config(), model.task.vocabulary, clip, {}, {"beep": 0.2}))
    assert load_model(path).thresholds == {"beep": 0.2}
    with safe_open(path, framework="pt") as opened:
        record = json.loads(opened.metadata()[METADATA_KEY])
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118

    def edited(**change: object) -> Path:
        save_file(weights, path, metadata={METADATA_KEY: json.dumps({**record, **change})})
        return path

    for wrong in ({"beep": 7.0}, {"beep": math.nan}, {"unknown": 0.5}, ["beep"]):
        with pytest.raises(UsageError, match="not a complete mmattn model"):
            load_model(edited(thresholds=wrong))
    del record["thresholds"], record["vocabulary"]["counts"], record["vocabulary"]["clips"]
    for name in ("loss", "class_weights", "effective_beta", "calibrate"):
        del record["config"]["task"][name]
    old = load_model(edited())
    assert old.thresholds == {} and old.vocabulary.counts == (), "models of before load"


def test_all_metrics_and_thresholds_are_exact_in_parts(tiny_model: Callable, make_batch: Callable) -> None:
    """Clips dealt out to three processes, one of which has them in another order and one a clip twice."""
    model = tiny_model("task.calibrate=f1")
    batches = [replace(make_batch(4, seed=i), ids=tuple(f"{i}/{k}" for k in range(4))) for i in range(4)]
    whole, parts = Evaluation(model.task.vocabulary), [Evaluation(model.task.vocabulary) for _ in range(3)]
    for batch in batches:
        whole.update(model, batch)
    for i, batch in enumerate([*reversed(batches), batches[0]]):
        parts[i % 3].update(model, batch)
    merged = Evaluation(model.task.vocabulary)
    merged.merge(parts)
    thresholds = whole.thresholds(model.task)
    assert thresholds.keys() == {"beep", "red"}
    assert merged.thresholds(model.task) == thresholds
    metrics = whole.result(0, thresholds)["metrics"]
    assert merged.result(0, thresholds)["metrics"] == metrics
    assert metrics["f1"]["thresholds"] == thresholds
    assert metrics["f1"]["macro"] >= metrics["f1_at_half"]["macro"]
    assert {"auroc", "d_prime", "calibration_error", "top5_accuracy"} <= metrics.keys()
