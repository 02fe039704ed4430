"""`mmattn predict`: one line a file, whatever the file is."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import mmattn
from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.output_folder import alone_in
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source
from mmattn.media.write.video import write_video

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def library(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have them: good files, half files, things that are no media at all."""
    root = tmp_path_factory.mktemp("library")
    shutil.copy(shapes / "clips" / "000000.mp4", root / "a_good.mp4")
    picture = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), dtype=np.uint8)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000 * 2) / 16000).astype(np.float32)
    write_video(root / "b_no_sound_track.mp4", picture, 12)
    write_video(root / "c_digital_silence.mp4", picture, 12, np.zeros(32000, np.float32))
    write_video(root / "d_sound_only.m4a", None, 12, tone)
    write_video(root / "e_longer_than_a_clip.mkv", np.tile(picture, (6, 1, 1, 1)), 12, np.tile(tone, 6))
    (root / "f_empty.mp4").write_bytes(b"")
    (root / "g_text.mp4").write_text("this is not a video")
    whole = (root / "a_good.mp4").read_bytes()
    (root / "h_cut_off.mp4").write_bytes(whole[: len(whole) // 3])
    (root / "sub").mkdir()
    shutil.copy(shapes / "clips" / "000001.mp4", root / "sub" / "i with spaces, ünï\ncode.mp4")
    (root / ".hidden.mp4").write_bytes(whole)
    return root


@pytest.fixture(scope="module")
def records(trained: Path, library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    out = tmp_path_factory.mktemp("out") / "predictions.jsonl"
    assert main(["predict", f"run={trained}", f"source={library}", f"out={out}", "threshold=0.1"]) == 0
    assert {path.name for path in out.parent.iterdir()} == {"predictions.jsonl", "predictions.jsonl.job"}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 9, "one line for each visible file"
    return {Path(line["path"]).name[0]: line for line in lines}


def test_a_good_file_gets_tags_scores_and_weightings(records: dict[str, dict]) -> None:
    record = records["a"]
    assert record["status"] == "ok" and record["spans"] == [[0.0, 3.0]]
    assert record["modality"]["used"] == ["video", "audio"]
    scores = [tag["score"] for tag in record["tags"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    assert {"video", "audio", "synergy"} <= record["tags"][0].keys()
    attention = record["modality"]["attention"]
    assert 0 < attention["audio"] < 1 and attention["prior"] == pytest.approx(75 / 171, abs=1e-3)


@pytest.mark.parametrize(("name", "used"), [("b", ["video"]), ("c", ["video"]), ("d", ["audio"])])
def test_what_a_file_lacks_is_a_missing_modality(records: dict[str, dict], name: str, used: list[str]) -> None:
    record = records[name]
    assert record["status"] == "ok"
    assert record["modality"]["used"] == used
    assert record["modality"]["attention"] is None
    (missing,) = {"video", "audio"} - set(used)
    assert all(tag[missing] == 0 for tag in record["tags"]), "what is not there cannot have caused anything"


def test_a_long_file_is_read_to_its_end(records: dict[str, dict]) -> None:
    spans = records["e"]["spans"]
    assert len(spans) == 4
    assert spans[0] == [0.0, 3.0] and spans[-1][1] == pytest.approx(12.0, abs=0.1)


@pytest.mark.parametrize(
    ("name", "reasons"), [("f", {"truncated", "not_media"}), ("g", {"not_media"}), ("h", {"truncated"})]
)
def test_a_bad_file_is_a_typed_failure(records: dict[str, dict], name: str, reasons: set[str]) -> None:
    assert records[name]["status"] == "failed"
    assert records[name]["reason"] in reasons


def test_samples_that_are_no_numbers_do_not_reach_the_scores(trained: Path, tmp_path: Path) -> None:
    wave = np.sin(np.arange(32000, dtype=np.float32) / 5)
    wave[100:110] = np.nan
    riff = struct.pack("<4sI4s", b"RIFF", 36 + wave.nbytes, b"WAVE")
    float_mono = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 3, 1, 16000, 64000, 4, 32, b"data", wave.nbytes)
    (tmp_path / "nan.wav").write_bytes(riff + float_mono + wave.tobytes())
    record = mmattn.load(trained)(tmp_path / "nan.wav").to_dict()
    assert "bad_samples" in record["issues"]
    assert all(0 <= tag["score"] <= 1 for tag in record["tags"])


def test_odd_names_are_kept(records: dict[str, dict]) -> None:
    assert records["i"]["status"] == "ok"
    assert records["i"]["path"].endswith("i with spaces, ünï\ncode.mp4")


def test_python_gives_the_same_record_as_the_command(trained: Path, library: Path, records: dict[str, dict]) -> None:
    predictor = mmattn.load(trained)
    predictor.threshold = 0.1
    record = predictor(library / "a_good.mp4").to_dict()
    assert {"id": "a_good.mp4", **record} == records["a"]


def test_late_fusion_reports_no_attention_between_modalities(small: list[str], library: Path, tmp_path: Path) -> None:
    run = tmp_path / "late"
    assert main(["train", *small, "fusion=late", "logger=none", "trainer.epochs=1", f"run={run}"]) == 0
    record = mmattn.load(run)(library / "a_good.mp4").to_dict()
    assert record["modality"]["attention"] is None
    assert record["modality"]["used"] == ["video", "audio"]


def test_a_source_without_any_readable_file_exits_2_and_says_why(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.mp4").write_text("hello")
    out = tmp_path / "out.jsonl"
    assert main(["predict", f"run={trained}", f"source={tmp_path / 'in'}", f"out={out}"]) == 2
    assert "no readable file" in capsys.readouterr().err
    assert json.loads(out.read_text())["reason"] == "not_media"


def test_evaluate_writes_the_test_split(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "evaluation.json"
    assert main(["evaluate", f"run={trained}", "split=test", f"out={out}"]) == 0
    assert "test clips: mAP" in capsys.readouterr().out
    assert json.loads(out.read_text())["split"] == "test"


def test_evaluate_in_noise_is_repeatable_and_named_for_it(trained: Path, capsys: pytest.CaptureFixture) -> None:
    name, records = "evaluation-val-babble-5dB.json", []
    for _ in range(2):
        assert main(["evaluate", f"run={trained}", "noise.kind=babble", "noise.snr_db=-5"]) == 0
        assert name in capsys.readouterr().out
        records.append(json.loads((trained / name).read_text()))
    assert records[0] == records[1]
    assert records[0]["noise"] == {"kind": "babble", "snr_db": -5, "seed": 0}
    assert main(["evaluate", f"run={trained}"]) == 0
    clean = json.loads((trained / "evaluation-val.json").read_text())
    value, noisy = clean["shapley"]["value"], records[0]["shapley"]["value"]
    assert noisy["video"] == value["video"]
    assert noisy["audio"] != value["audio"]


def test_a_noise_that_does_not_exist_is_refused(trained: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", f"run={trained}", "noise.kind=brown"]) == 2
    assert "noise.kind=brown" in capsys.readouterr().err


def test_the_same_command_again_does_nothing_and_new_files_are_added(
    trained: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, out = tmp_path / "in", tmp_path / "out.jsonl"
    source.mkdir()
    shutil.copy(library / "a_good.mp4", source / "a.mp4")
    (source / "bad.mp4").write_text("no film")
    (source / "notes.txt").write_text("beside")
    command = ["predict", f"run={trained}", f"source={source}", f"out={out}"]
    assert main(command) == 0
    assert "2 files: 1 answered, 1 not_media (left out: 1 not media by its name) ->" in capsys.readouterr().out
    first = out.read_bytes()
    before = {path: path.stat().st_mtime_ns for path in [out, *tmp_path.rglob("*.jsonl")]}
    assert main(command) == 0
    assert "nothing new" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    shutil.copy(library / "d_sound_only.m4a", source / "aa.m4a")
    assert main(command) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a.mp4", "bad.mp4", "aa.m4a"]
    assert out.read_bytes().startswith(first)
    shutil.copy(library / "a_good.mp4", source / "bad.mp4")
    assert main([*command, "retry_failed=true"]) == 0
    assert "3 files: 3 answered" in capsys.readouterr().out


def test_other_settings_or_another_model_do_not_mix_with_what_is_done(
    trained: Path, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["predict", f"run={trained}", f"source={library / 'a_good.mp4'}", f"out={tmp_path / 'o.jsonl'}"]
    assert main(command) == 0
    assert main([*command, "threshold=0.3"]) == 2
    assert "was begun with another threshold (null, now 0.3); set another out=" in capsys.readouterr().err
    changed = tmp_path / "model.safetensors"
    changed.write_bytes((trained / "model.safetensors").read_bytes() + b" ")
    assert main(["predict", f"run={changed}", *command[2:]]) == 2
    assert "another weights" in capsys.readouterr().err
    with alone_in(tmp_path / "o.jsonl.job"):  # as a driver holds it
        assert main([*command, "threshold=0.3", "resume=false"]) == 2
    assert "another process is filling it now" in capsys.readouterr().err
    assert main(command) == 0, "its work is still there"
    assert "nothing new" in capsys.readouterr().out
    assert main([*command, "threshold=0.3", "resume=false"]) == 0


def test_how_the_work_is_shared_out_changes_nothing(trained: Path, library: Path, tmp_path: Path) -> None:
    outs = []
    ways = {
        "one": ["engine.workers=1", "decoders=1"],
        "two": ["engine.workers=2", "decoders=2", "shard_files=3"],
        "tasks": [
            "engine=slurm",
            "engine.cluster=local",
            "engine.tasks=2",
            "engine.minutes=5",
            "engine.workers=1",
            "shard_files=4",
        ],
    }
    for name, more in ways.items():
        outs.append(tmp_path / f"{name}.jsonl")
        assert main(["predict", f"run={trained}", f"source={library}", f"out={outs[-1]}", "batch_size=1", *more]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes() == outs[2].read_bytes()


def test_a_preempted_task_comes_back_with_what_it_was_given(trained: Path, library: Path, tmp_path: Path) -> None:
    from submitit.helpers import DelayedSubmission

    from mmattn.inference.engines.slurm import _Task

    job = Job(tmp_path / "job")
    job.update(list_source(str(library / "a_good.mp4")).entries, 4)
    config = compose("predict", [f"run={trained}", f"source={library}"])
    job.write_settings(config)
    task = _Task(str(job.root), 1)
    again = task.checkpoint([0])
    assert isinstance(again, DelayedSubmission)
    again.function(*again.args)
    assert [record["status"] for record in job.records()] == ["ok"]
    stamp = (job.root / "done" / "000000.jsonl").stat().st_mtime_ns
    again.function(*again.args)
    assert (job.root / "done" / "000000.jsonl").stat().st_mtime_ns == stamp


def test_a_cluster_that_is_not_there_is_one_line(trained: Path, library: Path, tmp_path: Path, capsys) -> None:
    command = ["predict", f"run={trained}", f"source={library}", f"out={tmp_path / 'o.jsonl'}", "engine=slurm"]
    for more, says in (
        ([], "engine=slurm"),
        (["engine.cluster=moon"], "expected slurm or local"),
        (["engine.tasks=0"], "tasks=0"),
    ):
        assert main([*command, *more]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
