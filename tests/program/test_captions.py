"""Captions as a whole program: trained beside tags or alone, evaluated, predicted, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmattn.checkpoint import load_model
from mmattn.cli.main import main
from mmattn.inference.predictor.pipeline import Predictor

pytestmark = pytest.mark.usefixtures("warm")

CAPTIONING = [
    "captions=transformer",
    "captions.layers=1",
    "captions.tokenizer.size=300",
    "captions.decoding.method=greedy",
    "captions.decoding.max_length=12",
    "logger=csv",
]


@pytest.fixture(scope="module")
def both(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tags and captions, weighed by uncertainty, rewarded in the second epoch."""
    run = tmp_path_factory.mktemp("runs") / "both"
    more = ["multitask=uncertainty", "self_critical=cider", "self_critical.from_epoch=1", "trainer.log_every=1"]
    assert main(["train", *small, *CAPTIONING, *more, f"run={run}"]) == 0
    return run


def test_one_model_carries_tags_and_captions(both: Path):
    lines = [json.loads(line) for line in (both / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line}
    assert {"train/loss_tags", "train/loss_captions", "train/weight_tags", "train/weight_captions"} <= names
    assert {"train/reward", "val/mAP", "val/captions/cider_d", "val/captions/shapley/cider_d/audio"} <= names
    rewarded = [i for i, line in enumerate(lines) if "train/reward" in line]
    assert rewarded and rewarded[0] > 0, "not from the first epoch on"
    record = json.loads((both / "evaluation.json").read_text())
    assert {"val_mAP", "val_CIDEr-D"} <= record.keys()
    assert record["captions"]["clips"] == record["clips"]
    split = record["captions"]["shapley"]["cider_d"]
    assert split["video"] + split["audio"] == pytest.approx(split["value"]["both"] - split["value"]["none"])


def test_evaluate_may_search_otherwise(both: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["evaluate", f"run={both}", "decoding={method: beam, beams: 2}", f"out={tmp_path / 'e.json'}"]) == 0
    assert "CIDEr-D" in capsys.readouterr().out
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["decoding"] == {"method": "beam", "beams": 2}
    clips = [json.loads(line) for line in (tmp_path / "e-clips.jsonl").read_text().splitlines()]
    assert {"caption", "references", "alone", "metrics", "words"} <= clips[0]["captioning"].keys()


def test_predict_writes_captions_with_what_each_word_owes(both: Path, shapes: Path, tmp_path: Path):
    out = tmp_path / "p.jsonl"
    assert main(["predict", f"run={both}", f"source={shapes}/clips", f"out={out}"]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(record["status"] == "ok" for record in records)
    (caption,) = records[0]["captions"]
    assert caption["start"] == 0 and caption["end"] == 3
    assert " ".join(word["word"] for word in caption["words"]) == caption["text"]
    assert all({"video", "audio", "synergy", "attention"} <= word.keys() for word in caption["words"])


def test_a_sampled_caption_does_not_depend_on_what_shares_its_batch(both: Path, shapes: Path):
    checkpoint = load_model(both, None, {"method": "sample", "top_p": 1.0, "temperature": 2.0})
    files = sorted((shapes / "clips").glob("*.mp4"))[:3]
    together = [record["captions"] for record in Predictor(checkpoint, batch_size=4).records(files)]
    alone = [record["captions"] for record in Predictor(checkpoint, batch_size=1).records(files)]
    texts = [[caption["text"] for caption in captions] for captions in (*together, *alone)]
    assert texts[:3] == texts[3:]


def test_a_model_may_only_caption(small: list[str], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "alone"
    small = [text for text in small if not text.startswith("trainer.epochs")]
    options = ["task=none", "captions.tokenizer.kind=word", "trainer.epochs=1", "fusion=late"]
    options.append("modality_balance=unimodal_losses")  # needs no tags
    assert main(["train", *small, *CAPTIONING, *options, f"run={run}"]) == 0
    record = json.loads((run / "evaluation.json").read_text())
    assert record["metrics"]["mAP"] is None and record["captions"]["metrics"]["cider_d"] >= 0
    assert main(["predict", f"run={run}", f"source={shapes}/clips/000000.mp4", f"out={tmp_path / 'p.jsonl'}"]) == 0
    (line,) = [json.loads(text) for text in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert line["tags"] == [] and line["captions"][0]["text"]
    assert main(["explain", f"run={run}", f"source={shapes}/clips/000000.mp4", f"out={tmp_path / 'e'}"]) == 2
    assert "only captions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["task=none"], "captions=null"),
        (["self_critical=cider"], "self_critical"),
        (["captions=transformer", "data.augment.mixup=0.5"], "mixup"),
        (["captions=transformer", "task=none", "modality_balance=ogm_ge"], "modality_balance"),
        (["captions=transformer", "captions.max_length=5"], "max_length"),
        (["captions=transformer", "captions.tokenizer.kind=letters"], "kind"),
        (["captions=transformer", "attention@captions.attention=time_window"], "needs times, which words do not have"),
        (["captions=transformer", "attention@captions.attention=sofmax"], "no attention is named 'sofmax'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_named_before_anything_is_written(
    wrong: list[str], named: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", *small, "logger=none", *wrong, f"run={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert named in error and error.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_decoding_is_for_models_that_caption(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", f"run={trained}", "decoding={method: greedy}"]) == 2
    assert "needs a model with captions" in capsys.readouterr().err
