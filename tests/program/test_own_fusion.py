"""examples/my_fusion and my_annotator as a user of wheels has them: installed, used, gone, trusted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from warm import Popen, Source

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "my_fusion"
ANNOTATOR = ROOT / "examples" / "my_annotator"
TRAIN = ["fusion=mean", "trainer.epochs=1", "logger=none"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels, unpacked as an installation would."""
    out = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, EXAMPLE, ANNOTATOR):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out / project.name)]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
        (wheel,) = (out / project.name).glob("*.whl")
        zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


@pytest.fixture
def mmattn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`mmattn(SITE, VERB, ..., fails=False)`: stdout; of a command that fails its one line."""
    monkeypatch.setattr(subprocess, "Popen", Popen)
    with ExitStack() as entered:
        sources: dict[Path, Source] = {}

        def run(site: Path, *arguments: str, fails: bool = False) -> str:
            environment = {**os.environ, "PYTHONPATH": str(site)}
            if site not in sources:
                sources[site] = entered.enter_context(Source.started(environment))
            monkeypatch.setattr(Popen, "source", sources[site], raising=False)
            command = [sys.executable, "-P", "-m", "mmattn", *arguments]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert (done.returncode == 0) != fails, done.stderr
            return done.stderr.strip() if fails else done.stdout

        yield run


def test_an_installed_package_brings_a_row_to_the_comparison(
    mmattn: Callable[..., str], site: Path, small: list[str], tmp_path: Path
) -> None:
    small = [one for one in small if one != "fusion.layers=1"]
    assert "mean" in mmattn(site, "show", "fusion")
    mmattn(site, "train", *small, *TRAIN, "run=mine")
    mmattn(site, "train", "resume=mine")
    mmattn(site, "train", *small, "trainer.epochs=1", "logger=none", "fusion=late", "run=late")
    for run in ("mine", "late"):
        mmattn(site, "evaluate", f"run={run}", "split=test")
    clips = next(part.partition("=")[2] for part in small if part.startswith("data.root="))
    mmattn(site, "predict", "run=mine", f"source={clips}/clips", "out=tags.jsonl")
    assert all(json.loads(line)["status"] == "ok" for line in (tmp_path / "tags.jsonl").read_text().splitlines())
    mmattn(site, "compare", "runs=[mine,late]", "samples=0", "out=c.html")
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [row["fusion"] for row in rows] == ["mean", "late"] and rows[0]["flops"]

    without = tmp_path / "site"
    shutil.copytree(site, without, ignore=shutil.ignore_patterns("my_fusion*"))
    for verb in (["evaluate", "run=mine"], ["train", "resume=mine"], ["predict", "run=mine", f"source={clips}"]):
        line = mmattn(without, *verb, fails=True)
        assert "needs the package my_fusion, which is not installed here; install it" in line and "\n" not in line
    assert "late" in mmattn(without, "show", "fusion")

    shutil.copytree(site / "my_fusion", without / "my_fusion")  # there, but it offers no configs: as from elsewhere
    line = mmattn(without, "evaluate", "run=mine", fails=True)
    assert "add trust=my_fusion" in line and "\n" not in line
    assert "test clips" in mmattn(without, "evaluate", "run=mine", "split=test", "trust=my_fusion")
    folder = str(EXAMPLE / "my_fusion" / "conf")
    assert "val clips" in mmattn(without, "evaluate", "run=mine", "--config-dir", folder)


def test_processes_of_a_run_build_what_the_users_configs_name(
    mmattn: Callable[..., str], site: Path, small: list[str], tmp_path: Path
) -> None:
    without = tmp_path / "site"
    shutil.copytree(site, without, ignore=shutil.ignore_patterns("my_fusion-*"))
    small = [one for one in small if one != "fusion.layers=1"]
    command = ["train", *small, *TRAIN, "trainer.devices=2", "run=two"]
    mmattn(without, *command, f"--config-dir={EXAMPLE}/my_fusion/conf")
    assert (tmp_path / "two" / "finished.json").is_file()
    line = mmattn(without, *command[:-1], "run=three", fails=True)
    assert "no fusion is named 'mean'" in line


def test_an_installed_package_brings_an_annotator(mmattn: Callable[..., str], site: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, peak in (("quiet", 0.2), ("strong", 0.7)):
        tone = 32767 * peak * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
        with wave.open(str(tmp_path / "clips" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(tone.astype("<i2").tobytes())
    ask = ["predict", "model=pretrained", "source=clips", "out=found.jsonl"]

    def found(*more: str, of: Path = site) -> dict[str, list[str]]:
        mmattn(of, *ask, "resume=false", *more)
        records = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
        return {record["path"].rpartition("/")[2]: [tag["tag"] for tag in record["tags"]] for record in records}

    assert found("annotators=[loud]") == {"quiet.wav": [], "strong.wav": ["loud"]}
    assert found("annotators=loud", "loud.threshold=.1") == {"quiet.wav": ["loud"], "strong.wav": ["loud"]}
    job = json.loads((tmp_path / "found.jsonl.job" / "job.json").read_text())["recipe"]["annotators"]["loud"]
    assert (job["threshold"], job["versions"]) == (0.1, ["my-annotator 0.1.0"])
    shown = mmattn(site, "predict", "annotators=[loud]", "--cfg", "job", "--package", "annotator.loud")
    assert "_target_: my_annotator.Loud" in shown and "annotator.loud" not in mmattn(site, "predict", "--cfg", "job")
    assert "did you mean loud" in mmattn(site, *ask, "annotators=[lound]", fails=True)
    assert "did you mean annotator.loud.threshold" in mmattn(site, *ask, "loud.treshold=1", fails=True)
    assert "loud.threshold=high: expected" in mmattn(site, *ask, "annotators=[loud]", "loud.threshold=high", fails=True)

    without = tmp_path / "site"
    shutil.copytree(site, without, ignore=shutil.ignore_patterns("my_annotator*"))
    assert "no such annotator" in mmattn(without, *ask, "annotators=[loud]", fails=True)
    named = ["--config-dir", str(ANNOTATOR / "my_annotator" / "conf"), "annotators=[loud]"]
    assert "loud needs the package my_annotator" in mmattn(without, *ask, *named, fails=True)
    shutil.copytree(site / "my_annotator", without / "my_annotator")  # on the path, not installed
    assert found(*named, of=without) == {"quiet.wav": [], "strong.wav": ["loud"]}


def test_what_the_page_shows_is_the_examples() -> None:
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    for project in (EXAMPLE, ANNOTATOR):
        for file in [*project.rglob("*.yaml"), *project.rglob("__init__.py")]:
            text = file.read_text(encoding="utf-8")
            start = min(text.index(word) for word in ("import torch", "from mmattn", "_target_") if word in text)
            assert text[start:].strip() in page, file
