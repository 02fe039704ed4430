"""An output that cannot be written is refused before any work, by every verb that has one."""

from __future__ import annotations

import shutil
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


@pytest.mark.parametrize("verb", MADE)
def test_it_is_refused_before_the_work(
    verb: str, trained: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, classes = tmp_path / "run", tmp_path / "classes"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("wandb"))
    for number, tag in enumerate(("cat", "dog")):
        (classes / tag).mkdir(parents=True)
        shutil.copy(shapes / "clips" / f"00000{number}.mp4", classes / tag)
    if verb == "evaluate":
        (run / "model.safetensors").unlink()  # so that loading it would be the error
    settings, name = MADE[verb]
    (tmp_path / "taken").touch()
    words = settings.format(
        clips=shapes / "clips", clip=shapes / "clips" / "000000.mp4", run=run, classes=classes
    ).split()
    with_run = [f"run={run}"] if verb in ("predict", "explain", "evaluate", "data features") else []
    out = tmp_path / "taken" / name
    assert main([*verb.split(), *with_run, *words, f"out={out}"]) == 2
    said = capsys.readouterr().err
    assert f"out={out}: {tmp_path / 'taken'} is not a folder" in said, said
