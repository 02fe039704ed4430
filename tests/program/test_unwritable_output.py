"""An output that cannot be written is refused before any work, by every verb that has one."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.cli.main import main

MADE = {  # verb -> settings, and what it writes
    "predict": ("source={clips}", "p.jsonl"),
    "explain": ("source={clip}", "page"),
    "evaluate": ("", "scores.json"),
    "compare": ("runs={run} measure=none", "page.html"),
    "data check": ("source={clips}", "report"),
    "data shard": ("data=folder data.root={classes}", "shards"),
    "data features": ("data=folder data.root={classes}", "features"),
    "data manifest": ("data=folder data.root={classes}", "m.jsonl"),
}


def words_of(verb: str, trained: Path, shapes: Path, folder: Path) -> list[str]:
    """The command without out=, on a copy of the run in `folder`."""
    run, classes = folder / "run", folder / "classes"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("wandb"))
    for number, tag in enumerate(("cat", "dog")):
        (classes / tag).mkdir(parents=True)
        shutil.copy(shapes / "clips" / f"00000{number}.mp4", classes / tag)
    clips = shapes / "clips"
    words = MADE[verb][0].format(clips=clips, clip=clips / "000000.mp4", run=run, classes=classes).split()
    with_run = [f"run={run}"] if verb in ("predict", "explain", "evaluate", "data features") else []
    return [*verb.split(), *with_run, *words]


@pytest.mark.parametrize("verb", MADE)
def test_it_is_refused_before_the_work(
    verb: str, trained: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = words_of(verb, trained, shapes, tmp_path)
    if verb == "evaluate":
        (tmp_path / "run" / "model.safetensors").unlink()  # so that loading it would be the error
    (tmp_path / "taken").touch()
    out = tmp_path / "taken" / MADE[verb][1]
    assert main([*words, f"out={out}"]) == 2
    said = capsys.readouterr().err
    assert f"out={out}: {tmp_path / 'taken'} is not a folder" in said, said


@pytest.mark.parametrize("verb", MADE)
def test_a_pipe_is_not_replaced(
    verb: str, trained: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Nor is a device: as root, out=/dev/full would leave a file there."""
    out = tmp_path / MADE[verb][1]
    os.mkfifo(out)
    link = tmp_path / f"link{out.suffix}"
    link.symlink_to(out)
    words = words_of(verb, trained, shapes, tmp_path)
    for name in (out, link):
        assert main([*words, f"out={name}"]) == 2, name
        assert stat.S_ISFIFO(out.lstat().st_mode)
    said = capsys.readouterr().err
    assert "is a device or a pipe" in said or "not a directory" in said or "is not a folder" in said, said


@pytest.mark.parametrize("verb", ["predict", "evaluate", "data manifest"])
def test_a_link_stays_and_what_it_points_to_is_written(verb: str, trained: Path, shapes: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "elsewhere" / MADE[verb][1], tmp_path / MADE[verb][1]
    target.parent.mkdir()
    link.symlink_to(target)
    words = words_of(verb, trained, shapes, tmp_path)
    small = ["engine.workers=1", "decoders=1", "device=cpu"] if verb == "predict" else []
    assert main([*words, *small, *(["split=val"] if verb == "evaluate" else []), f"out={link}"]) == 0
    assert link.is_symlink() and target.stat().st_size > 0


GROWING = {"data shard": "shards/shards.json", "data check": "report/check.part.jsonl", "data manifest": "m.jsonl"}


@pytest.mark.parametrize(("verb", "file"), GROWING.items())
def test_a_disk_that_fills_up_is_named(verb: str, file: str, trained: Path, shapes: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; neither error names a file by itself."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    words = [*words_of(verb, trained, shapes, tmp_path), f"out={tmp_path / MADE[verb][1]}"]
    command = [sys.executable, "-m", "mmattn", *words]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, env=environment, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f"{tmp_path / file}: File too large" in done.stderr.splitlines()[-1]
