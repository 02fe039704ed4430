"""`mmattn data check` and `mmattn data manifest` as programs: exit codes, an interrupt in the middle, going on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.data.manifest.rows import read_manifest
from mmattn.media.write.video import write_video

pytestmark = pytest.mark.usefixtures("warm")

FILES = 60


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of which no two have the same bytes."""
    root = tmp_path_factory.mktemp("videos")
    frames = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    write_video(root / "one.mp4", frames, 8, np.zeros(16000, np.float32))
    content = (root / "one.mp4").read_bytes()
    for number in range(FILES - 1):
        (root / f"{number:03d}.mp4").write_bytes(content + b"\x00\x00\x00\x0cfree" + number.to_bytes(4, "big"))
    return root


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# The program with a Ctrl-C at one certain moment: around the writing of the 20th line of what it has found.
INTERRUPTED = """
import os, signal, sys
from mmattn.cli.main import main

write, calls = os.pwrite, 0

def pwrite(fd, line, at):
    global calls
    calls += 1
    if calls == 20 and sys.argv[1] == "before":
        signal.raise_signal(signal.SIGINT)
    written = write(fd, line, at)
    if calls == 20:
        signal.raise_signal(signal.SIGINT)
    return written

os.pwrite = pwrite
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("moment", "kept", "options"), [("before", 19, ["isolated=false"]), ("after", 20, ["workers=1"])]
)
def test_an_interrupted_check_goes_on_where_it_was(
    moment: str, kept: int, options: list[str], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    check = ["data", "check", f"source={videos}", f"out={tmp_path / 'report'}"]
    command = [sys.executable, "-c", INTERRUPTED, moment, *check, *options]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert first.returncode == 130, first.stderr
    assert _lines(tmp_path / "report/check.part.jsonl") == kept
    assert f"{kept} of {FILES} files are done; the same command continues" in first.stderr
    assert "Traceback" not in first.stderr
    assert not (tmp_path / "report/check.jsonl").exists()
    assert main([*check, "isolated=false"]) == 0
    assert f"{kept} of them known from before" in capsys.readouterr().out
    paths = [json.loads(line)["path"] for line in (tmp_path / "report/check.jsonl").read_text().splitlines()]
    assert len(set(paths)) == len(paths) == FILES
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"check.jsonl", "summary.json", "report.html"}


def test_bad_files_are_an_answer_and_nothing_to_check_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/bad.mp4").write_bytes(b"bad")
    arguments = ["data", "check", f"out={tmp_path / 'report'}", "isolated=false"]
    assert main([*arguments, f"source={tmp_path / 'videos'}"]) == 0
    said = capsys.readouterr().out
    assert "1 file, 3 B; 0 readable" in said and "1 not readable" in said and "not_media: bad.mp4" in said
    assert main([*arguments, f"source={tmp_path / 'none'}"]) == 2
    assert main([*arguments]) == 2
    assert main(["data", "chek", "source=x"]) == 2
    assert "data check" in capsys.readouterr().err


def test_a_manifest_of_a_set_is_one_that_folder_reads(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "audiocaps").mkdir()
    lines = [f"{number},{number:03d},0,Something is heard {number}" for number in range(4)] + ["9,gone,10,Nothing"]
    (tmp_path / "audiocaps/train.csv").write_text("audiocap_id,youtube_id,start_time,caption\n" + "\n".join(lines))
    (tmp_path / "audiocaps/media").symlink_to(videos)
    out = tmp_path / "manifests/manifest.jsonl"
    arguments = ["data", "manifest", "data=audiocaps", f"data.root={tmp_path / 'audiocaps'}", f"out={out}"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 clips (") and "with 4 captions" in said and "1 of 5 have no media" in said
    rows = read_manifest(out)
    assert [row.captions for row in rows] == [(f"Something is heard {number}",) for number in range(4)]
    assert all(row.path.is_file() and row.end == 10.0 for row in rows)
    missing = json.loads(out.with_suffix(".missing.jsonl").read_text())
    assert missing["id"] == "gone_10" and "gone_000010" in missing["looked_for"]
    # and a folder with that manifest is a data set in its turn
    again = ["data", "manifest", f"data.root={out.parent}", f"out={tmp_path / 'again.csv'}"]
    assert main(again) == 0
    assert read_manifest(tmp_path / "again.csv") == rows
    assert not (tmp_path / "again.missing.jsonl").exists()


def test_a_manifest_of_nothing_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"path": "gone.mp4", "captions": ["x"]}\n')
    out = tmp_path / "o.jsonl"
    assert main(["data", "manifest", f"data.root={tmp_path}", f"out={out}"]) == 2
    assert "none of 1 clip has media" in capsys.readouterr().err
    assert main(["data", "manifest", f"data.root={tmp_path}", "out=o.txt"]) == 2
    assert "ends in .jsonl" in capsys.readouterr().err
    assert not out.exists()
