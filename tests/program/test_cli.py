"""Bad input gets one line with what is wrong and what to do, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.cli.main import VERBS, main
from mmattn.config.compose import compose
from mmattn.errors import UsageError


def fails(arguments: list[str], capsys: pytest.CaptureFixture, code: int = 2) -> str:
    """The one line of a failing command."""
    assert main(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("mmattn: ")]) == 1, lines
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "did you mean train"),
        (["train", "fusoin=late"], "did you mean fusion"),
        (["train", "fusion=lat"], "did you mean late"),
        (["train", "optim.lrr=1"], "did you mean optim.lr"),
        (["train", "optim.lr=fast"], "expected a number"),
        (["train", "--epochs", "3"], "key=value"),
        (["train", "epochs"], "not key=value"),
        (["train", "data.clip.fps=-1"], "above 0"),
        (["train", "data=folder"], "data.root"),
        (["train", "trainer.epochs=0"], "1 or more"),
        (["train", "trainer.epochs=null"], "expected a value"),
        (["train", "~trainer.epochs"], "cannot be removed"),
        (["train", "~fusion"], "cannot be removed"),
        (["train", "trainer.devices=3"], "does not divide among trainer.devices=3"),
        (["predict", "run=nowhere", "source=it's, me (1).mp4"], "no such model"),
        (["train", "trainer.epochs=1.5"], "whole number"),
        (["train", "trainer.threads=many"], "expected a number"),
        (["train", "optim.lr=-1"], "optim.lr=-1: expected a number above 0"),
        (["train", "data.cache_gb=-1"], "0 or more"),
        (["train", "task.label_smoothing=1.0"], "label_smoothing"),
        (["train", "resume=5"], "not a run directory"),
        (["train", "trainer.accelerator=gpuu"], "accelerator"),
        (["train", "trainer.precision=12-mixed"], "recision"),
        (["train", "resume=runs/x", "optim.lr=1"], "leave out optim.lr=1"),
        (["train", "resume=nowhere"], "not a run directory"),
        (["train", "heads=5"], "does not divide into 5 heads"),
        (["predict", "run=x"], "source"),
        (["predict", "run=nowhere", "source=."], "no such model"),
        (["evaluate", "run=nowhere"], "not a run directory"),
        (["show", "fusoin"], "did you mean fusion"),
        (["compare", "runs=[nowhere]"], "nowhere"),
    ],
)
def test_what_was_mistyped_is_named_with_what_was_meant(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    if {"heads=5", "task.label_smoothing=1.0"} & set(arguments):  # faults that show when the model is built
        (tmp_path / "data").mkdir()
        manifest = [{"path": "a.mp4", "tags": ["x"], "split": split, "id": split} for split in ("train", "val")]
        (tmp_path / "data" / "manifest.jsonl").write_text("\n".join(map(json.dumps, manifest)))
        arguments = [*arguments, "data=folder", "data.root=data"]
    before = sorted(tmp_path.rglob("*"))
    assert expected in fails(arguments, capsys)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def folder(tmp_path: Path, name: str) -> Path:
    root = tmp_path / name
    root.mkdir()
    return root


def case_missing(root: Path) -> str:
    root.rmdir()
    return "no such directory"


def case_empty(root: Path) -> str:
    return "empty"


def case_no_path_column(root: Path) -> str:
    (root / "manifest.csv").write_text("file,tags\na.mp4,dog\n")
    return "column 'file' is not read; did you mean 'path'"


def case_broken_line(root: Path) -> str:
    (root / "manifest.jsonl").write_text('{"path": "a.mp4", "tags": ["dog"]}\n{"path": \n')
    return "line 2"


def case_no_tags(root: Path) -> str:
    (root / "manifest.csv").write_text("id,path,split\n1,a.mp4,train\n2,b.mp4,val\n")
    return "no training clip has tags"


def case_unseen_label(root: Path) -> str:
    (root / "manifest.csv").write_text("id,path,tags,split\n1,a.mp4,dog,train\n2,b.mp4,cat,val\n")
    return "cat"


def case_nothing_readable(root: Path) -> str:
    for name in ("dog", "cat"):
        (root / name).mkdir()
        for number in range(9):
            (root / name / f"{number}.mp4").write_text("no video")
    return "none of"


@pytest.mark.parametrize(
    "case",
    [
        case_missing,
        case_empty,
        case_no_path_column,
        case_broken_line,
        case_no_tags,
        case_unseen_label,
        case_nothing_readable,
    ],
)
def test_a_data_set_that_cannot_be_used_is_named_before_anything_is_written(
    case, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = folder(tmp_path, "videos")
    expected = case(root)
    line = fails(["train", "data=folder", f"data.root={root}", "logger=none", f"run={tmp_path / 'run'}"], capsys)
    assert expected in line
    assert not (tmp_path / "run").exists()


def test_a_read_only_run_directory_fails_before_the_first_step(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in fails(["train", *small, f"run={tmp_path / 'file' / 'run'}"], capsys)


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys; from mmattn.cli.main import main; main(['--help']);"
        "heavy = {'torch', 'hydra', 'omegaconf', 'av', 'lightning', 'wandb', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture) -> None:
    assert main([verb, "--help"]) == 0
    assert f"mmattn {verb}" in capsys.readouterr().out


def test_show_lists_the_choices(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "task"]) == 0
    assert capsys.readouterr().out == "task: none, prompted, tagging\n"


@pytest.mark.parametrize("name", ["holiday (1).mp4", "it's, me.mp4", "a;b {c} = d.mp4", "back\\slash.mp4", "2024"])
def test_a_file_may_have_any_name(name: str) -> None:
    assert compose("predict", ["run=x", f"source={name}"])["source"] == name


def test_a_demo_does_not_remove_runs_that_are_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    kept = tmp_path / "cross" / "config.yaml"
    kept.parent.mkdir()
    kept.write_text("mine")
    options = ["fusions=[cross]", f"videos={tmp_path / 'videos'}", "clips=6", f"out={tmp_path}"]
    assert "is not a demo's" in fails(["demo", *options], capsys)
    assert kept.read_text() == "mine"


def test_debugging_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMATTN_DEBUG", "1")
    with pytest.raises(UsageError, match="did you mean train"):
        main(["trian"])
