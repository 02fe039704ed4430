"""The current folder holds modules of other names: no process of ours, of any kind, imports one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmattn.files import MODEL_FILE
from mmattn.process.startup import SAFE, safe_children

NAMES = (
    "av", "queue", "numpy", "torch", "json", "random", "socket", "struct", "pickle", "hydra", "lightning", "yaml",
    "submitit", "cloudpickle", "ray", "sitecustomize", "usercustomize", "multiprocessing", "typing", "conf",
)  # fmt: skip
MODULE = [sys.executable, "-m", "mmattn"]
SCRIPT = [str(Path(sys.executable).with_name("mmattn"))]
TRAIN = ["logger=none", "trainer.epochs=1", "trainer.validate_every=1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Each of its modules leaves a mark beside the folder if it is ever run."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in NAMES:
        mark = tmp_path / f"ran-{name}"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit('taken for {name}')\n")
    return folder


def run(folder: Path, *command: str, **environment: str) -> str:
    given = {name: value for name, value in os.environ.items() if name not in SAFE}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, env=given | environment)
    marks = sorted(path.name for path in folder.parent.glob("ran-*"))
    assert not marks, f"{marks}\n{done.stderr}"
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mmattn", [MODULE, SCRIPT], ids=["module", "script"])
def test_the_program_and_its_decoders(mmattn: list[str], folder: Path, shapes: Path):
    if not Path(mmattn[0]).is_file():
        pytest.skip("no console script beside this Python")
    assert run(folder, *mmattn, "--version").startswith("mmattn ")
    run(folder, *mmattn, "data", "check", f"source={shapes / 'clips'}", "out=checked", "depth=header", "workers=1")


@pytest.mark.parametrize("engine", ["local", "slurm", pytest.param("ray", marks=pytest.mark.slow)])
def test_every_engine(engine: str, folder: Path, trained: Path, shapes: Path):
    if engine != "local":
        pytest.importorskip({"slurm": "submitit", "ray": "ray"}[engine])
    how = {"local": ["workers=1"], "slurm": ["cluster=local", "engine.tasks=1"], "ray": ["actors=1"]}
    clips = [f"run={trained / MODEL_FILE}", f"source={shapes / 'clips'}", "out=tags.jsonl"]
    run(folder, *MODULE, "predict", *clips, f"engine={engine}", f"engine.{how[engine][0]}", *how[engine][1:])
    assert len((folder / "tags.jsonl").read_text().splitlines()) == 24


@pytest.mark.parametrize("launcher", ["local", "torchrun"])
def test_the_processes_of_a_training(launcher: str, folder: Path, small: list[str]):
    how = [f"launcher={launcher}", "trainer.devices=2", "data.workers=1", "data.isolated=true", "data.cache_gb=0"]
    run(folder, *MODULE, "train", *small, *TRAIN, *how, "run=r")
    assert (folder / "r" / MODEL_FILE).is_file()


def test_the_processes_of_a_sweep(folder: Path, small: list[str]):
    run(folder, *MODULE, "train", "-m", *small, *TRAIN, "fusion=late", "seed=0,1")


def test_the_makers_of_a_generated_set(folder: Path):
    script = "from mmattn.data.avshapes import make_avshapes\n"
    script += (
        "if __name__ == '__main__':\n    from pathlib import Path\n    make_avshapes(Path('set'), 40, 0, workers=2)"
    )
    (folder.parent / "make.py").write_text(script)  # a user's own program, which lies elsewhere
    run(folder, sys.executable, str(folder.parent / "make.py"))
    assert len(list((folder / "set" / "clips").iterdir())) == 40


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("safe", [True, False])
def test_a_loaders_workers_however_they_are_started(method: str, safe: bool, folder: Path):
    """They are Python's own children, of a process that has set what mmattn's processes set."""
    script = "import multiprocessing, os\nfrom mmattn.process.startup import SAFE\n"
    script += f"if __name__ == '__main__':\n    os.environ.update(SAFE if {safe} else {{}})\n"
    script += f"    worker = multiprocessing.get_context({method!r}).Process(target=print, args=('well',))\n"
    script += "    worker.start(); worker.join(); print('ended')\n"
    (folder.parent / "loads.py").write_text(script)
    command = [sys.executable, str(folder.parent / "loads.py")]
    if safe:
        assert sorted(run(folder, *command).split()) == ["ended", "well"]
    else:  # so that this test can fail
        with pytest.raises(AssertionError, match="ran-"):
            run(folder, *command)


def test_what_the_user_put_on_the_path_stays(folder: Path, tmp_path: Path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text("")
    script = "import sys\nsys.argv[0] = 'mmattn'\nbeside = sys.path[0]\nimport mmattn, mine\n"
    (tmp_path / "mmattn.txt").write_text(script + "print(beside in sys.path)")
    path = os.pathsep.join(filter(None, [str(own), os.environ.get("PYTHONPATH", "")]))
    assert run(folder, sys.executable, str(tmp_path / "mmattn.txt"), PYTHONPATH=path) == "False\n"


def test_the_environment_of_who_calls_is_put_back(monkeypatch: pytest.MonkeyPatch):
    """mmattn is a library too: what it asks of its own children holds for no later one."""
    for before in (None, "0"):
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        with safe_children():
            assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ.get("PYTHONSAFEPATH") == before
