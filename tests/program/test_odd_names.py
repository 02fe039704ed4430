"""Files and folders of odd names go through every verb, end to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmattn.cli.main import main
from mmattn.config.compose import compose
from mmattn.data.manifest.rows import read_manifest
from mmattn.errors import UsageError
from mmattn.media.write.video import write_video
from mmattn.training.directory.create import create_run

pytestmark = pytest.mark.usefixtures("warm")

NAMES = ["José#1&2 {x}, a=b", "true", '[2024] caf\udce9 it\'s "q"!', "~x 100% $HOME ${x} \\ 🎬"]


@pytest.fixture(params=NAMES, ids=["signs", "true", "latin-1", "picture"])  # ids are UTF-8, for xdist
def name(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Also of a folder with a film of that name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / request.param
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), np.uint8)
    write_video(folder / f"{request.param}.mp4", frames, 8, np.zeros(32000, np.float32))
    return request.param


def utf8(name: str) -> str:
    """For where weights are kept: safetensors opens no other."""
    return name.replace("\udce9", "é")


def ran(arguments: list[str]) -> int:
    """The exit code. In a process of its own where names are printed that pytest cannot read back."""
    if all(text.isascii() or text.isprintable() for text in arguments):
        return main(arguments)
    return subprocess.run([sys.executable, "-m", "mmattn", *arguments], capture_output=True, timeout=600).returncode


def test_predict_explain_and_check(name: str, trained: Path) -> None:
    film = f"{name}/{name}.mp4"
    run = shutil.copytree(trained, f"run {utf8(name)}")
    outs = [f"tracks=t {name}", f"burn_in=b {name}", f"job=j {name}", "threshold=0"]
    assert (
        ran(["predict", f"run={run}", f"source={name}", f"out=p {name}.jsonl", *outs, "device=cpu", "threshold=0"]) == 0
    )
    (line,) = Path(f"p {name}.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == f"{name}.mp4"
    assert [path.name[: len(name)] for path in Path(f"b {name}").iterdir()] == [name]
    assert ran(["explain", f"run={run}", f"source={film}", f"out=e {name}", "masks=8"]) == 0
    assert Path(f"e {name}", "explain.json").is_file()
    assert ran(["evaluate", f"run={run}", f"out=v {name}.json"]) == 0
    assert Path(f"v {name}.json").is_file()
    assert ran(["data", "check", f"source={film}", f"out=c {name}", "isolated=false", "workers=1"]) == 0
    assert ran(["compare", f"sweep={Path().absolute()}", f"out={name}/{name}.html", "measure=none"]) == 0
    assert Path(name, f"{name}.html").is_file()


def test_train_shard_manifest_and_features(name: str, small: list[str], tmp_path: Path) -> None:
    film = Path(name, f"{name}.mp4")
    root = Path("data", name)
    for tag in ("cat", "dog"):
        (root / tag).mkdir(parents=True)
        for number in range(12):
            content = film.read_bytes() + b"\x00\x00\x00\x0dfree" + tag[:1].encode() + number.to_bytes(4, "big")
            (root / tag / f"{name} {number}.mp4").write_bytes(content)
    data = ["data=folder", f"data.root={root}"]
    settings = [text for text in small if not text.startswith(("data=", "data.root", "data.clips", "data.source"))]
    assert ran(["train", *settings, *data, "trainer.epochs=1", "logger=none", f"run={utf8(name)}"]) == 0
    assert Path(utf8(name), "model.safetensors").is_file()
    assert ran(["data", "manifest", *data, f"out=m {name}.jsonl"]) == 0
    assert len(read_manifest(Path(f"m {name}.jsonl"))) == 24
    assert ran(["data", "shard", *data, f"out=s {name}", "threads=1"]) == 0
    shards = ["data=shards", f"data.root=s {name}", "trainer.epochs=1", "logger=none", f"run=2 {utf8(name)}"]
    assert ran(["train", *settings, *shards]) == 0
    assert ran(["data", "features", *data, "data.isolated=false", f"run={utf8(name)}", f"out=f {utf8(name)}"]) == 0


def test_a_run_whose_name_cannot_be_kept_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not UTF-8"):
        create_run(compose("train", ["data.root=d", f"run={tmp_path}/caf\udce9"]))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_printed_as_it_is(tmp_path: Path) -> None:
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    write_video(tmp_path / "caf\udce9.mp4", frames, 8, np.zeros(16000, np.float32))
    command = [sys.executable, "-m", "mmattn", "data", "check", "source=caf\udce9.mp4", "out=o\udce9", "isolated=false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"o\xe9" in done.stdout and b"Traceback" not in done.stderr
