"""Training from kept tokens is training from files with frozen encoders, and its models predict from files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mmattn
from mmattn.checkpoint import Checkpoint, save_model
from mmattn.cli.main import main
from mmattn.config.compose import Config, build, compose
from mmattn.data.build import build_data
from mmattn.data.features.batches import FeatureData
from mmattn.data.features.files import FeatureFiles
from mmattn.data.features.source import FeatureSource, with_frozen_encoders
from mmattn.data.load.dataset import stack_samples
from mmattn.data.load.sampler import Draw
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video
from mmattn.model import AVModel, build_model
from mmattn.types import Batch

TINY = [
    "dim=16", "heads=2", "dropout=0.1", "data.batch_size=8", "visual.widths=[8,8,16]", "visual.blocks=1",
    "audio.blocks=1", "fusion.layers=1", "trainer.accelerator=cpu", "trainer.threads=1", "logger=none",
]  # fmt: skip
CLIP = ["data.clip.seconds=1.0", "data.clip.height=16", "data.clip.width=16", "data.clip.mels=12"]
ROWS = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty spans of six files: one without sound, one without a picture, and one that is no film."""
    folder = tmp_path_factory.mktemp("files")
    for k in range(6):
        frames = np.random.default_rng(k).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
        tone = (0.4 * np.sin(np.arange(32000) * (0.05 + 0.02 * k))).astype(np.float32)
        write_video(folder / f"{k}.mkv", None if k == 1 else frames, 8, None if k == 0 else tone)
    (folder / "text.mkv").write_text("no film")
    rows = [
        {"id": f"{k}", "path": f"{k % 6}.mkv", "start": 0.02 * k, "tags": [f"tag{k % 3}"]}
        | {"split": ("train", "train", "val", "train", "test")[k % 5]}
        for k in range(ROWS)
    ]
    rows[20]["path"] = "text.mkv"
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _saved_model(folder: Path, seed: int, *changes: str) -> Path:
    """A model with random weights, as a run leaves it."""
    config = compose("train", ["data=folder", "data.root=.", *TINY, *CLIP, *changes])
    vocabulary = TagVocabulary(("a", "b"))
    torch.manual_seed(seed)
    model = build_model(config, vocabulary).eval()
    save_model(folder / "model.safetensors", Checkpoint(model, config, vocabulary, build(config["data"]["clip"]), {}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved_model(tmp_path_factory.mktemp("run"), 1)


def _command(run: Path, root: Path, out: Path, *more: str) -> list[str]:
    options = ["dtype=float32", "clips_per_file=16", "data.isolated=false", *more]
    return ["data", "features", f"run={run}", f"data.root={root}", f"out={out}", *options]


@pytest.fixture(scope="module")
def features(run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "made"
    assert main(_command(run, root, out)) == 0
    return out


def _config(features: Path, *more: str) -> Config:
    tiny = [text for text in TINY if not text.startswith(("visual", "audio"))]
    return with_frozen_encoders(compose("train", ["data=features", f"data.root={features}", *tiny, *more]))


def _model(features: Path) -> tuple[AVModel, FeatureData]:
    config = _config(features)
    data = build_data(config["data"])
    assert isinstance(data, FeatureData)
    torch.manual_seed(3)
    model = build_model(config, data.vocabulary)
    model.load_state_dict(model.state_dict() | data.encoder_weights())
    return model, data


def _batches(kind: str, root: Path, *more: str) -> list[Batch]:
    data = build_data(compose("train", [f"data={kind}", f"data.root={root}", "data.batch_size=8", *more])["data"])
    return list(data.loader(data.dataset("train", train=True), train=True))


def test_tokens_and_loss_are_those_of_the_files(root: Path, features: Path) -> None:
    model, _ = _model(features)
    plain = ["data.augment.sound.gain_db=0", "data.augment.sound.masks=0", "data.augment.picture.shift_px=0"]
    dropout = ["data.isolated=false", "data.augment.modality_dropout=0.3", *plain, *CLIP]
    kept = _batches("features", features, "data.modality_dropout=0.3")
    files = _batches("folder", _without_text(root), *dropout)
    assert [batch.ids for batch in kept] == [batch.ids for batch in files]
    model.train()
    for one, other in zip(kept, files, strict=True):
        for part in (model.visual, model.audio):
            ours, theirs = part(one), part(other)
            assert torch.equal(ours.keep, theirs.keep) and torch.equal(ours.times, theirs.times)
            shown = ours.keep[..., None]  # what was taken away keeps its values
            torch.testing.assert_close(ours.values * shown, theirs.values * shown, rtol=0, atol=1e-5)
        losses = []
        for batch in (one, other):
            torch.manual_seed(4)
            losses.append(model.task.loss(model(batch), batch)["loss"].detach())
        torch.testing.assert_close(*losses, rtol=0, atol=1e-5)
    dropped = torch.cat([batch.features["audio"].keep.any(dim=1) for batch in kept])
    assert 0 < int((~dropped).sum()) < len(dropped)


def _without_text(root: Path) -> Path:
    """The same rows but the unreadable one, in a folder of their own beside the files."""
    folder = root.parent / "readable"
    folder.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    rows = [row | {"path": str(root / row["path"])} for row in rows if row["path"] != "text.mkv"]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_model_trained_on_features_predicts_from_files(root: Path, features: Path, run: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    tiny = [text for text in TINY if not text.startswith(("visual", "audio"))]
    options = ["data=features", f"data.root={features}", *tiny, "trainer.epochs=2", "trainer.validate_every=1"]
    assert main(["train", *options, f"run={trained}"]) == 0
    predictor = mmattn.load(trained)
    before, after = mmattn.load(run).model.state_dict(), predictor.model.state_dict()
    for name, weight in before.items():
        part, _, rest = name.partition(".")
        if part in ("visual", "audio"):
            assert torch.equal(weight, after[f"{part}.encoder.{rest}"]), "frozen"
    assert predictor.clip == mmattn.load(run).clip
    assert predictor(root / "2.mkv").ok
    data = build_data(_config(features)["data"])
    dataset = data.dataset("val", vocabulary=predictor.vocabulary)
    row = dataset.rows[0]
    assert row.id == "2"
    sample = predictor.clip.prepare(predictor.clip.read(root / "2.mkv", row.start))
    with torch.inference_mode():
        kept = predictor.model(dataset.collate([dataset[Draw(0, 0)]]))
        file = predictor.model(stack_samples([sample], ["2"], predictor.clip))
    torch.testing.assert_close(kept, file, rtol=0, atol=1e-5)
    assert main(["evaluate", f"run={trained}", "split=test"]) == 0
    assert main(["evaluate", f"run={trained}", "split=test", "noise=babble", "snr_db=0"]) == 2, "no sound is there"


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_and_run_again_the_bytes_are_the_same(run: Path, root: Path, features: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    process = subprocess.Popen([sys.executable, "-m", "mmattn", *_command(run, root, parts)])
    until = time.monotonic() + 120
    while not list(parts.glob("features-*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "made" not in json.loads((parts / "features.json").read_text()), "it was not through"
    with pytest.raises(UsageError, match="not finished"):
        FeatureSource(str(parts)).rows()
    (kept,) = parts.glob("features-*")
    at = kept.stat().st_mtime_ns
    assert main(_command(run, root, parts)) == 0
    assert kept.stat().st_mtime_ns == at, "not made twice"
    assert _content(parts) == _content(features)


def test_what_could_not_be_read_is_listed_and_has_no_row(features: Path, root: Path) -> None:
    (line,) = (features / "unreadable.jsonl").read_text().splitlines()
    assert {key: json.loads(line)[key] for key in ("id", "reason")} == {"id": "20", "reason": "not_media"}
    assert [row.id for row in FeatureSource(str(features)).rows()] == [str(k) for k in range(ROWS) if k != 20]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_numbers_stay_near(run: Path, root: Path, features: Path, tmp_path: Path, dtype: str) -> None:
    assert main(_command(run, root, tmp_path / dtype, f"dtype={dtype}")) == 0
    (one, *_), (other, *_) = _batches("features", features), _batches("features", tmp_path / dtype)
    for name, tokens in one.features.items():
        assert other.features[name].values.dtype == torch.float32
        torch.testing.assert_close(other.features[name].values, tokens.values, rtol=1e-2, atol=1e-3)
        assert torch.equal(other.features[name].times, tokens.times)


def test_a_stale_folder_is_refused_by_what_differs(
    run: Path, root: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    others = {
        "encoders": _command(_saved_model(tmp_path / "weights", 2), root, features),
        "clip": _command(_saved_model(tmp_path / "clip", 1, "data.clip.fps=4"), root, features),
        "dtype": _command(run, root, features, "dtype=float16"),
        "rows": _command(run, _without_text(root), features),
        "span": _command(run, root, features, "data.span=center"),
    }
    before = _content(features)
    for what, command in others.items():
        assert main(command) == 2
        assert f"begun with another {what} (" in capsys.readouterr().err
    assert main(_command(run, root, features)) == 0, "the same again is done already"
    assert _content(features) == before


@pytest.mark.parametrize("harm", ["cut", "gone", "strange", "unknown"])
def test_a_folder_that_is_not_as_it_was_made_is_refused(features: Path, tmp_path: Path, harm: str) -> None:
    for name, content in _content(features).items():
        (tmp_path / name).write_bytes(content)
    file, manifest = tmp_path / "features-000001.safetensors", tmp_path / "manifest.jsonl"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "gone":
        file.unlink()
    elif harm == "strange":
        file.write_bytes(bytes(file.stat().st_size))
    else:
        manifest.write_text(manifest.read_text().replace('"id": "4"', '"id": "four"'))
    words = {
        "cut": "bytes as written; copy it again",
        "gone": "bytes as written; copy it again",
        "strange": "not a file of features",
        "unknown": "no features of 'four'",
    }
    with pytest.raises(UsageError, match=words[harm]):
        build_data(_config(tmp_path)["data"]).check_readable()


def test_encoders_that_did_not_make_the_tokens_are_refused(features: Path, tmp_path: Path) -> None:
    for name, content in _content(features).items():
        (tmp_path / name).write_bytes(content)
    changed = bytearray((tmp_path / "encoders.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "encoders.safetensors").write_bytes(bytes(changed))
    with pytest.raises(UsageError, match="not the encoders that made the tokens"):
        build_data(_config(tmp_path)["data"]).encoder_weights()


def test_another_number_of_channels_is_refused(features: Path) -> None:
    with pytest.raises(UsageError, match="have 16 channels, the model 32; set dim=16"):
        _config(features, "dim=32")


def test_no_more_than_some_files_are_open_and_workers_open_their_own(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmattn.data.features.files.OPEN_FILES", 1)
    files = FeatureFiles(features, [f"features-{k:06d}.safetensors" for k in range(3)])
    whole = {k: files.read(str(k)) for k in (0, 39, 17, 0)}
    assert len(files._open) == 1
    assert torch.equal(whole[0]["video"].values, files.read("0")["video"].values)
    one, other = (_batches("features", features, f"data.workers={workers}") for workers in (0, 1))
    for a, b in zip(one, other, strict=True):
        assert a.ids == b.ids and torch.equal(a.features["audio"].values, b.features["audio"].values)


def test_frozen_encoders_draw_no_dropout_and_learn_nothing(features: Path, make_batch: Callable) -> None:
    model, _ = _model(features)
    model.train()
    batch = make_batch(2)
    assert torch.equal(model.visual(batch).values, model.visual(batch).values)
    assert not any(p.requires_grad for part in (model.visual, model.audio) for p in part.parameters())
    assert any(p.requires_grad for p in model.parameters())


def test_features_are_not_made_from_features(run: Path, features: Path, tmp_path: Path, capsys) -> None:
    command = ["data", "features", f"run={run}", "data=features", f"data.root={features}", f"out={tmp_path / 'x'}"]
    assert main(command) == 2
    assert "features are made from clips" in capsys.readouterr().err


def test_augmentation_of_features_is_refused(features: Path) -> None:
    data = build_data(_config(features)["data"])
    with pytest.raises(UsageError, match="no audio or video"):
        data.dataset("val", augment=Augment())
    with pytest.raises(UsageError, match="modality_dropout"):
        replace(data, modality_dropout=0.6)
