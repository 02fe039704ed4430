"""`mmattn train` as a whole: what a run directory holds, stopping, resuming, several processes."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmattn.checkpoint import MODEL_FILE, load_model
from mmattn.cli.main import main
from mmattn.media.survey.probe import probe
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.directory.exclusive import exclusive

pytestmark = pytest.mark.usefixtures("warm")


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_directory_holds_all_that_a_run_is(trained: Path) -> None:
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["fusion"]["_target_"] == "mmattn.fusion.cross.CrossFusion"
    assert config["run"] == str(trained)
    record = json.loads((trained / "run.json").read_text())
    assert record["packages"]["torch"] == torch.__version__.split("+")[0]
    assert load_model(trained).vocabulary.names
    assert (trained / LAST).is_file()
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert evaluation["split"] == "val" and evaluation["clips"] > 0


def test_every_validation_logs_scores_mass_with_prior_and_the_exact_shapley_split(trained: Path) -> None:
    validations = [line for line in metrics_of(trained) if "val/mAP" in line]
    assert len(validations) == 2
    for line in validations:
        for stream in ("video", "audio"):
            for head in (0, 1):
                mass = line[f"val/attention_mass/cross.0/{stream}/head{head}/audio"]
                prior = line[f"val/attention_prior/cross.0/{stream}/head{head}/audio"]
                assert 0 <= mass <= 1
                assert prior == pytest.approx(75 / (75 + 96))
        assert {"val/shapley/video", "val/shapley/audio", "val/shapley/synergy/synergy"} <= line.keys()
        named = {key.split("/", 3)[3] for key in line if key.startswith("val/shapley/audio/")}
        assert {"picture", "sound", "redundant", "synergy"} < named and len(named) > 6, "families and tags"
    evaluation = json.loads((trained / "evaluation.json").read_text())
    split = evaluation["shapley"]
    assert split["video"] + split["audio"] == pytest.approx(split["value"]["both"] - split["value"]["none"])


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: protobuf messages in LevelDB's log format (in blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, b""  # 7 bytes of header
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block that no header fits into
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def test_an_offline_wandb_run_holds_the_weightings(trained: Path) -> None:
    """Everything that a person compares across runs, read back from the file that `wandb sync` would send."""
    (path,) = trained.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(path))
    items = [item for record in records for item in record.history.item]
    history = {"/".join(item.nested_key) or item.key: item.value_json for item in items}
    media: dict[str, dict] = {}  # tables and clips: a value for each of their fields
    for item in items:
        if len(item.nested_key) == 2:
            media.setdefault(item.nested_key[0], {})[item.nested_key[1]] = json.loads(item.value_json)
    evaluation = json.loads((trained / "evaluation.json").read_text())
    curves = {
        *("val/mAP", "val/loss", "val/shapley/audio", "val/shapley/synergy", "val/shapley/synergy/synergy"),
        *("val/shapley_low/video", "val/shapley_high/video", "val/permutation/audio", "val/confusion/video"),
        *("train/gradient_share/audio", "train/gradient_norm/video", "val/gradient_share/audio"),
    }
    head = "cross.0/video/head0"
    curves |= {f"val/attention_{name}/{head}/audio" for name in ("mass", "prior", "log_ratio")}
    curves |= {f"val/attention_{name}/{head}" for name in ("entropy", "lag_s", "distance_s")}
    assert curves <= history.keys()
    configured = {item.key for record in records for item in record.run.config.update}
    assert {"fusion", "attention", "data"} <= configured

    files = path.parent / "files"
    tables = {}
    for name in ("tags", "families", "heads"):
        entry = media[f"val/{name}"]
        tables[name] = json.loads((files / entry["path"]).read_text())
        assert entry["_type"] == "table-file" and entry["nrows"] == len(tables[name]["data"])
    rows = {row[0]: dict(zip(tables["tags"]["columns"], row, strict=True)) for row in tables["tags"]["data"]}
    assert rows.keys() == evaluation["shapley_by_tag"].keys()
    assert {row["family"] for row in rows.values()} == {"picture", "sound", "redundant", "synergy"}
    if evaluation["epoch"] == 1:  # the tables are of the last validation
        for tag, row in rows.items():
            assert row["ap"] == evaluation["metrics"]["ap"][tag]
            assert row["audio"] == evaluation["shapley_by_tag"][tag]["audio"]
            assert row["permutation_video"] == evaluation["permutation"]["video"]["by_tag"][tag]
            if row["synergy"] is not None:
                assert row["synergy_low"] <= row["synergy_high"]
    assert len(tables["heads"]["data"]) == 2 * len(evaluation["attention"])  # for picture and sound each

    charts = {"/".join(item.nested_key) for record in records for item in record.config.update}
    for part in ("video", "audio", "synergy"):
        assert f"val/bars/{part}_table" in media and f"_wandb/visualize/val/bars/{part}" in charts
    clips = [entry for name, entry in media.items() if name.startswith("val/clips/")]
    assert len(clips) == min(4, evaluation["clips"])
    for clip in clips:
        assert clip["_type"] == "video-file" and clip["caption"]
        found = probe(files / clip["path"])
        assert found.video is not None


def test_wandb_has_one_step_axis_and_the_best_score_as_summary(trained: Path) -> None:
    (path,) = trained.glob("wandb/offline-run-*/*.wandb")
    metrics = [record.metric for record in wandb_records(path) if record.HasField("metric")]
    axes = {metric.name or metric.glob_name: metric for metric in metrics}
    assert axes["trainer/global_step"].step_metric == ""
    assert axes["*"].step_metric == "trainer/global_step"
    assert axes["val/mAP"].step_metric == "trainer/global_step" and axes["val/mAP"].summary.max
    assert axes["val/loss"].summary.min
    logged = [{item.key or "/".join(item.nested_key) for item in record.history.item}
              for record in wandb_records(path) if record.HasField("history")]  # fmt: skip
    assert logged and all("trainer/global_step" in keys for keys in logged)


def test_no_secret_of_the_environment_is_written(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY_OF_SOMEBODY", "hunter2-hunter2")
    run = tmp_path / "run"
    assert main(["train", *small, "logger=csv", "fusion=late", "trainer.epochs=1", f"run={run}"]) == 0
    assert (run / "csv" / "metrics.csv").is_file()
    assert not (run / "wandb").exists()
    written = [path for path in run.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in path.read_bytes() for path in written)


def test_a_run_directory_is_not_written_over(trained: Path, small: list[str], capsys: pytest.CaptureFixture) -> None:
    before = (trained / "config.yaml").read_bytes()
    assert main(["train", *small, f"run={trained}"]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (trained / "config.yaml").read_bytes() == before


def test_a_run_stopped_in_mid_epoch_and_resumed_ends_with_the_same_weights(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*small, "logger=none", "trainer.epochs=3", "dropout=0.1"]
    assert main(["train", *options, f"run={tmp_path / 'whole'}"]) == 0

    plain = SeedSteps.on_train_batch_start

    def interrupt_at_step_three(self, trainer, pl_module, *rest) -> None:
        plain(self, trainer, pl_module, *rest)
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(SeedSteps, "on_train_batch_start", interrupt_at_step_three)
        assert main(["train", *options, f"run={tmp_path / 'halves'}"]) == 130
    assert (tmp_path / "halves" / LAST).is_file()
    assert main(["train", f"resume={tmp_path / 'halves'}"]) == 0

    whole = torch.load(tmp_path / "whole" / LAST, weights_only=True)
    halves = torch.load(tmp_path / "halves" / LAST, weights_only=True)
    assert whole["global_step"] == halves["global_step"] == 6
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, halves["state_dict"][name]), name


def test_the_last_epoch_is_validated_whatever_the_interval(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["logger=none", "trainer.epochs=3", "trainer.validate_every=2", "trainer.precision=bf16-mixed"]
    assert main(["train", *small, *options, f"run={run}"]) == 0
    assert [line["epoch"] for line in metrics_of(run) if "val/mAP" in line] == [1, 2]


@pytest.mark.parametrize(("devices", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_signal_keeps_the_checkpoint_and_ends_every_process(
    devices: int, number: signal.Signals, small: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["logger=none", "trainer.epochs=500", f"trainer.devices={devices}", f"run={run}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmattn", "train", *small, *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    try:
        while not ((run / LAST).is_file() and (run / MODEL_FILE).is_file()) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)  # the pipe closes when the last process has gone
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    assert f"resume={run}" in errors and "Traceback" not in errors
    assert torch.load(run / LAST, weights_only=True)["global_step"] > 0
    assert load_file(run / MODEL_FILE)


def test_processes_without_their_launcher_save_and_stop(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["logger=none", "trainer.epochs=500", "trainer.devices=2", f"run={run}"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "mmattn", "train", *small, *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (run / LAST).is_file() and time.monotonic() < deadline:
        assert launcher.poll() is None
        time.sleep(0.1)
    launcher.kill()
    _, errors = launcher.communicate(timeout=300)  # the pipe closes when the last process has gone
    assert "stopping: saving step" in errors
    assert torch.load(run / LAST, weights_only=True)["global_step"] > 0
    with exclusive(run):
        pass  # it is free


def test_two_processes_train_one_model_on_every_validation_clip(
    small: list[str], trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mmattn", "train", *small, "logger=none", "trainer.devices=2", f"run={run}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    two = json.loads((run / "evaluation.json").read_text())
    one = json.loads((trained / "evaluation.json").read_text())
    assert two["clips"] == one["clips"]
    # Half batches on two processes make the gradient of the whole batch: the runs agree but for rounding.
    assert two["metrics"]["mAP"] == pytest.approx(one["metrics"]["mAP"], abs=0.05)
    assert two["gradient_share"]["audio"] == pytest.approx(one["gradient_share"]["audio"], abs=0.02)
    assert two["gradient_share"]["norm"] == pytest.approx(one["gradient_share"]["norm"], rel=0.05)


def test_a_process_without_a_validation_clip_does_not_hold_up_the_others(
    small: list[str], shapes: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (shapes / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["path"] = str(shapes / row["path"])
    train = [row for row in rows if row["split"] == "train"][:8]
    one = next(row for row in rows if row["split"] == "val")
    one["tags"] = train[0]["tags"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, [*train, one])))
    data = ["data=folder", f"data.root={tmp_path}", "data.isolated=false", "data.clip.height=48", "data.clip.width=48"]
    options = [text for text in small if not text.startswith("data")]
    run = tmp_path / "run"
    options = [*data, "data.batch_size=8", *options, "logger=none", "trainer.devices=2", f"run={run}"]
    command = [sys.executable, "-m", "mmattn", "train", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "evaluation.json").read_text())["clips"] == 1


def test_a_damaged_checkpoint_is_named(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    assert main(["train", *small, "logger=none", "trainer.epochs=1", f"run={run}"]) == 0
    whole = (run / LAST).read_bytes()
    (run / LAST).write_bytes(whole[: len(whole) // 2])
    assert main(["train", f"resume={run}"]) == 2
    assert "damaged, or not a checkpoint" in capsys.readouterr().err


def test_a_gradient_that_is_not_finite_stops_the_run_with_one_line(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["train", *small, "logger=none", "optim.lr=1e30", f"run={tmp_path / 'run'}"]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("mmattn:")]
    assert "not finite" in line and "optim.lr" in line
