"""Hydra's command line as its users know it: what works, what is answered with what to type instead, tab completion."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmattn.cli.completion import SCRIPTS, candidates
from mmattn.cli.main import VERBS, main
from mmattn.config.compose import compose


def shown(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_config_is_shown_and_nothing_is_run(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["data=folder", "data.root=d", "fusion=late", "dim=24"]
    raw = yaml.safe_load(shown(capsys, "train", *given, "--cfg", "job"))
    assert raw["fusion"]["dim"] == "${dim}" and raw["dim"] == 24
    assert yaml.safe_load(shown(capsys, "train", "-c", "job", "--resolve", *given)) == compose("train", given)
    assert yaml.safe_load(shown(capsys, "train", "--cfg=job", "-p", "fusion", "--resolve", *given))["dim"] == 24
    assert shown(capsys, "train", "--cfg", "job", "--package", "dim", *given) == "24\n"
    assert yaml.safe_load(shown(capsys, "data", "check", "--cfg", "job"))["source"] == "???"
    assert "fusion/late -> fusion" in shown(capsys, "train", *given, "--info", "defaults")
    assert not list(tmp_path.iterdir())


def test_the_config_of_a_verb_is_that_of_what_was_typed(capsys: pytest.CaptureFixture) -> None:
    """Words without a key, short keys, and Hydra's plus for a group."""
    assert "folder: runs/x" in shown(capsys, "sweep", "ls", "runs/x", "--cfg", "job")
    assert "query: dog barks" in shown(capsys, "search", "lib.jsonl", "dog", "barks", "--cfg", "job")
    assert "threshold: 0.3" in shown(capsys, "predict", "sounds.threshold=.3", "--cfg", "job", "-p", "annotator.sounds")
    given = ["data.root=d", "-c", "job", "-p", "trainer.epochs"]
    assert shown(capsys, "train", "+experiment=grid_words", *given) == "60\n"
    assert main(["train", "-m", "fusion=late,cross", "--cfg", "job"]) == 2
    assert "--dry-run lists the runs" in capsys.readouterr().err


def test_a_config_of_ones_own_is_named(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ndim: 40\n")
    (tmp_path / "half.yaml").write_text("dim: 40\n")
    folder = ["--config-dir", str(tmp_path), "data.root=d"]
    assert yaml.safe_load(shown(capsys, "train", *folder, "--config-name=mine", "--cfg", "job"))["dim"] == 40
    assert str(tmp_path) in shown(capsys, "train", "--info", *folder)
    assert main(["train", *folder, "-cn", "half"]) == 2
    assert "begin it with defaults: [train, _self_]" in capsys.readouterr().err
    assert main(["train", "--config-name", "mine"]) == 2
    assert "no folder of configs has mine.yaml" in capsys.readouterr().err
    assert "MMATTN_CONFIG_DIR" not in os.environ, "one command's folder is not the next one's"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--config-path", "x"], "--config-dir DIR"),
        (["train", "-cp=x"], "--config-dir DIR"),
        (["train", "--hydra-help"], "mmattn VERB --help"),
        (["train", "--experimental-rerun", "x"], "resume=RUN"),
        (["train", "--cfg", "hydra"], "--cfg job"),
        (["train", "--cfg"], "expected a value"),
        (["train", "--resolve"], "needs --cfg job"),
        (["train", "--cfg", "job", "-p", "optmi"], "no such part"),
        (["evaluate", "-m", "run=r"], "-m is for mmattn train"),
        (["evaluate", "--config-name", "x"], "evaluate.yaml"),
        (["train", "--nonsense"], "mmattn train --help"),
        (["train", "--config-dir", "nowhere"], "no such folder"),
        (["show", "--cfg", "job"], "show has no config"),
        (["-sc", "install=tcsh"], "bash, zsh, fish"),
        (["train", "-sc", "install=bash"], "use it alone"),
    ],
)
def test_what_is_otherwise_here_is_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1


def test_candidates_are_verbs_keys_choices_and_switches() -> None:
    def found(*words: str) -> list[str]:
        return candidates(words, list(VERBS))

    assert found("ev") == ["evaluate"] and found("data", "ch") == ["check"]
    assert set(found("")) == {verb.split()[0] for verb in VERBS}
    assert "late" in {each.partition("=")[2] for each in found("train", "fusion=")}
    assert found("train", "optim.l") == ["optim.lr=", "optim.layer_decay="]
    assert {"data.clip.", "data.clips="} <= set(found("train", "data.cl"))
    assert "data.clip.fps=" in found("train", "data.clip.")
    assert "fusion.from_layer=" in found("train", "fusion=cross", "fusion.")
    assert "fusion.from_layer=" not in found("train", "fusion=late", "fusion.")
    assert found("train", "logger.onl") == ["logger.online="]
    assert found("train", "logger.online=t") == ["logger.online=true"]
    assert found("evaluate", "attention=de") == ["attention=dense"] and not found("evaluate", "fus")
    assert found("train", "--con") == ["--config-dir", "--config-name"] and not found("train", "fusion=nonsense", "x")


@pytest.fixture
def with_mmattn(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds `mmattn`."""
    (tmp_path / "mmattn").write_text(f'#!/bin/sh\nexec {sys.executable} -m mmattn "$@"\n')
    (tmp_path / "mmattn").chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}


TYPED = [("mmattn train fusion=lat", "late"), ("mmattn train data.clip.fp", "data.clip.fps="), ("mmattn dat", "data")]


@pytest.mark.parametrize(("typed", "becomes"), [TYPED[0], TYPED[2]])
def test_bash_asks_and_is_answered(typed: str, becomes: str, with_mmattn: dict[str, str]) -> None:
    lines = ['eval "$(mmattn -sc install=bash)"', f"COMP_LINE='{typed}' COMP_POINT={len(typed)}", "_mmattn"]
    script = "\n".join([*lines, 'echo "${COMPREPLY[@]}"', "complete -p mmattn"])
    done = subprocess.run(["bash", "-c", script], env=with_mmattn, capture_output=True, text=True)
    answer, registered = done.stdout.splitlines()
    assert answer.split() == [becomes] and "-F _mmattn" in registered, done.stderr


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
@pytest.mark.parametrize(("typed", "becomes"), TYPED)
def test_fish_asks_and_is_answered(typed: str, becomes: str, with_mmattn: dict[str, str], tmp_path: Path) -> None:
    script = f'mmattn -sc install=fish | source; complete -C "{typed}"'
    done = subprocess.run(["fish", "-c", script], env=with_mmattn, cwd=tmp_path, capture_output=True, text=True)
    assert [line.removeprefix("fusion=") for line in done.stdout.splitlines()] == [becomes], done.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
@pytest.mark.parametrize(("typed", "becomes"), TYPED)
def test_zsh_asks_and_is_answered(typed: str, becomes: str, with_mmattn: dict[str, str], tmp_path: Path) -> None:
    """A person at a terminal types and presses the tab key."""
    ours, its = os.openpty()
    command = ["zsh", "-f", "-i"]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=with_mmattn, cwd=tmp_path, start_new_session=True
    ) as shell:
        os.close(its)
        try:
            os.write(
                ours, b"autoload -Uz compinit; compinit -u -D; eval \"$(mmattn -sc install=zsh)\"; print re''ady\n"
            )
            assert "ready" in read_until(ours, "ready")
            os.write(ours, typed.encode() + b"\t")
            line = typed.rpartition(" ")[0] + " " + ("fusion=" if becomes == "late" else "") + becomes
            assert line in read_until(ours, line)
        finally:
            shell.kill()
            os.close(ours)


def read_until(terminal: int, text: str, deadline_s: float = 120) -> str:
    """What a terminal shows, up to `text` or until nothing has come for `deadline_s`."""
    shown = ""
    while text not in shown and select.select([terminal], [], [], deadline_s)[0]:
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_one_of_the_shell(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    assert subprocess.run([shell, "-n", "-c", SCRIPTS[shell]], capture_output=True).returncode == 0
