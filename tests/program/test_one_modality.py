"""Models of sound alone, or of the picture alone: nothing of the other is decoded, and nothing is said of nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mmattn
from mmattn.cli.main import main
from mmattn.config.compose import build
from mmattn.data.prepare.clips import ClipSpec
from mmattn.media.write.video import write_video
from mmattn.types import MODALITIES, Modality

pytestmark = pytest.mark.usefixtures("warm")

GROUP: dict[Modality, str] = {"video": "visual", "audio": "audio"}
OTHER: dict[Modality, Modality] = {"video": "audio", "audio": "video"}


@pytest.fixture(scope="module", params=MODALITIES)
def alone(request: pytest.FixtureRequest) -> Modality:
    return request.param


@pytest.fixture(scope="module")
def run(alone: Modality, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on `alone`."""
    run = tmp_path_factory.mktemp("runs") / alone
    gone = GROUP[OTHER[alone]]
    settings = [text for text in small if not text.startswith(f"{gone}.")]
    settings += [
        f"{gone}=none",
        "captions=transformer",
        "captions.layers=1",
        "captions.decoding={method: greedy, max_length: 6}",
    ]
    settings += ["trainer.epochs=1", "logger=none", f"run={run}"]
    assert main(["train", *settings]) == 0
    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    picture = np.random.default_rng(0).integers(0, 255, (36, 64, 64, 3), dtype=np.uint8)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000 * 3) / 16000).astype(np.float32)
    write_video(root / "both.mp4", picture, 12, tone)
    write_video(root / "picture.mp4", picture, 12)
    write_video(root / "sound.m4a", None, 12, tone)
    write_video(root / "silence.mp4", picture, 12, np.zeros(48000, np.float32))
    return root


@pytest.mark.parametrize("sliding", [[], ["span_step_s=1.5"]], ids=["spans", "sliding"])
def test_only_what_the_model_sees_or_hears_is_used(
    run: Path, alone: Modality, files: Path, sliding: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["predict", f"run={run}", f"source={files}", f"out={out}", "threshold=0.01", *sliding]) == 0
    records = {record["id"].partition(".")[0]: record for record in map(json.loads, out.read_text().splitlines())}
    assert len(records) == 4 and all(record["status"] == "ok" for record in records.values())
    full = {"both", "picture", "silence"} if alone == "video" else {"both", "sound"}
    for name, record in records.items():
        assert record["modality"]["used"] == ([alone] if name in full else [])
        assert bool(record["tags"]) == bool(record["captions"]) == (name in full)
        assert all(tag[OTHER[alone]] == tag["synergy"] == 0 for tag in record["tags"])


def test_the_other_modality_is_not_decoded(run: Path, alone: Modality, files: Path) -> None:
    spec = mmattn.load(run).clip
    clip = spec.read(files / "both.mp4")
    assert (clip.frames is None) == (alone == "audio") and (clip.waveform is None) == (alone == "video")


def test_it_is_evaluated_and_explained(run: Path, alone: Modality, files: Path, tmp_path: Path) -> None:
    assert main(["evaluate", f"run={run}", f"out={tmp_path / 'evaluation.json'}"]) == 0
    split = json.loads((tmp_path / "evaluation.json").read_text())["shapley"]
    assert split[OTHER[alone]] == pytest.approx(0.0, abs=1e-9)
    assert main(["explain", f"run={run}", f"source={files / 'both.mp4'}", f"out={tmp_path / 'told'}", "masks=8"]) == 0


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (["visual=none", "audio=none"], "leave nothing to learn from"),
        (["visual=none", "pretrain=contrastive"], "set pretrain=null"),
        (["audio=none", "modality_balance=ogm_ge"], "set modality_balance=null"),
    ],
    ids=",".join,
)
def test_what_needs_both_says_so(
    choices: list[str], told: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = [text for text in small if not text.startswith(("visual.", "audio."))]
    assert main(["train", *settings, *choices, f"run={tmp_path / 'run'}"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_missing_modality_and_none_are_the_same_to_a_fusion(
    modality: Modality, tiny_config: Callable, make_batch: Callable
) -> None:
    tokens = build(tiny_config(f"{GROUP[modality]}=none")[GROUP[modality]])(make_batch(2))
    assert tokens.values.shape == (2, 1, tiny_config()["dim"])
    assert not tokens.present.any()


def test_pictures_that_are_not_seen_take_no_memory() -> None:
    spec = ClipSpec(seconds=4.0, fps=25, height=96, width=96, video=False)
    empty = spec.prepare(mmattn.types.Clip(None, torch.zeros(0), torch.ones(64000), 16000, 0.0, "", (0.0, 4.0)))
    assert empty.frames.shape == (1, 3, 96, 96) and not empty.frame_keep.any() and empty.spectrogram_keep.all()
