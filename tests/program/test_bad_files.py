"""Training on a library with bad files: each costs itself, is listed once, and too many stop the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.cli.main import main
from mmattn.media.isolate import child as isolate

pytestmark = pytest.mark.usefixtures("warm")

# In the decoder's process, as a decoder with a fault would: it dies of one file and hangs in another.
FAULTY = """
import os, signal, time
import mmattn.media.isolate.worker as worker
plain = worker.decode
def faulty(request, src, *rest):
    if "deadly" in str(src):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "endless" in str(src):
        time.sleep(1000)
    return plain(request, src, *rest)
worker.decode = faulty
"""


@pytest.fixture
def library(shapes: Path, small: list[str], tmp_path: Path) -> list[str]:
    """Options for the generated clips with bad ones among them: three to train on, one to validate on."""
    rows = [json.loads(line) for line in (shapes / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["path"] = str(shapes / row["path"])
    good = rows[0]["path"]
    for name in ("deadly.mp4", "endless.mp4", "sound/deadly.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(good, tmp_path / name)
    (tmp_path / "text.mp4").write_text("no film")
    for name, split in {"deadly": "train", "endless": "train", "text": "train", "sound/deadly": "val"}.items():
        rows.append(rows[0] | {"id": name, "path": f"{name}.mp4", "split": split})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = [text for text in small if not text.startswith("data")]
    return [*options, "data=folder", f"data.root={tmp_path}", "data.clip.height=48", "data.clip.width=48"]


def _listed(run: Path) -> dict[str, str]:
    records = [json.loads(line) for line in (run / "unreadable.jsonl").read_text().splitlines()]
    assert len({record["id"] for record in records}) == len(records), "each is listed once"
    return {record["id"]: record["reason"] for record in records}


@pytest.mark.parametrize("workers", [0, 1])
def test_crashes_and_hangs_of_the_decoder_cost_one_file_each(
    workers: int, library: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    boot = isolate._BOOT.replace("from mmattn", f"exec({FAULTY!r}); from mmattn")
    monkeypatch.setattr(isolate, "_BOOT", boot)
    run = tmp_path / "run"
    options = ["logger=none", "data.batch_size=4", "data.deadline_s=4", "data.max_bad_fraction=0.5"]
    assert main(["train", *library, *options, f"data.workers={workers}", f"run={run}"]) == 0
    assert _listed(run) == {
        "deadly": "crashed", "endless": "timeout", "text": "not_media", "sound/deadly": "crashed",
    }  # fmt: skip
    assert "4 clips left out" in capsys.readouterr().err
    validated = sum('"split": "val"' in line for line in (tmp_path / "manifest.jsonl").read_text().splitlines())
    assert json.loads((run / "evaluation.json").read_text())["clips"] == validated - 1


def test_more_bad_files_than_allowed_stop_the_run(
    library: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    texts = [rows[-1] | {"id": f"text {k}", "path": "text.mp4", "split": "train"} for k in range(4)]
    manifest.write_text("\n".join(map(json.dumps, [*rows, *texts])))
    options = ["logger=none", "data.isolated=false", f"run={tmp_path / 'run'}"]
    assert main(["train", *library, *options]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("mmattn:")]
    assert "clips could not be read" in line and "not_media" in line and "data.max_bad_fraction=0.05" in line
    assert len(_listed(tmp_path / "run")) >= 2


def test_two_processes_go_on_when_one_has_a_batch_without_any_real_clip(library: list[str], tmp_path: Path) -> None:
    for name in ("deadly.mp4", "endless.mp4", "sound/deadly.mp4"):
        (tmp_path / name).write_text("no film")
    run = tmp_path / "run"
    options = [
        "logger=none",
        "trainer.epochs=1",
        "data.isolated=false",
        "data.batch_size=2",
        "data.max_bad_fraction=0.5",
    ]
    command = [sys.executable, "-m", "mmattn", "train", *library, *options, "trainer.devices=2", f"run={run}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert _listed(run) == dict.fromkeys(["deadly", "endless", "text", "sound/deadly"], "not_media")
    assert "Traceback" not in result.stderr


def test_bad_files_of_two_processes_are_counted_together(library: list[str], tmp_path: Path) -> None:
    """More than the limit only where those of both are added up: the run stops, in all its processes."""
    manifest = tmp_path / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    texts = [rows[-1] | {"id": f"text {k}", "path": "text.mp4", "split": "train"} for k in range(6)]
    manifest.write_text("\n".join(map(json.dumps, [*rows, *texts])))
    train = sum(row["split"] == "train" for row in [*rows, *texts])
    limit = 5 / train  # six are too many; each process has about half of them
    run = tmp_path / "run"
    options = ["logger=none", "data.isolated=false", "data.batch_size=4", f"data.max_bad_fraction={limit:.4f}"]
    options += ["data.workers=1", "trainer.epochs=3", "trainer.devices=2", f"run={run}"]
    command = [sys.executable, "-m", "mmattn", "train", *library, *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("mmattn:")]
    assert any("clips could not be read" in line for line in said) and "Traceback" not in result.stderr, result.stderr
    ids = [json.loads(line)["id"] for line in (run / "unreadable.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) > 3  # one process is ended while it notes its own
