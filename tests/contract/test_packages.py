"""What is published: an installed mmattn has all that a checkout has, and the sdist has its tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mmattn

ROOT = Path(__file__).parents[2]
COMPOSE = """
import json, sys
from mmattn.config.compose import build, compose, conf_dir
config = compose("train", ["fusion=late", "dim=16"])
print(json.dumps({"dir": str(conf_dir()), "config": config, "built": type(build(config["data"]["clip"])).__name__}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist, and of the wheel that was made from it."""
    out = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return out


@pytest.fixture(scope="module")
def unpacked(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def test_what_is_built_can_be_published(built: Path) -> None:
    files = [str(path) for path in built.glob("mmattn-*") if path.is_file()]
    assert sorted(Path(file).name for file in files) == [
        f"mmattn-{mmattn.__version__}-py3-none-any.whl",
        f"mmattn-{mmattn.__version__}.tar.gz",
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "tests",
    [
        pytest.param(["tests/test_text.py", "tests/config/test_moved.py", "tests/metrics"], id="few"),
        pytest.param(
            [
                "-m",
                "not slow",
                "--ignore=tests/contract/test_packages.py",
                "--ignore=tests/inference/engines/test_ray.py",
            ],
            id="all",
            marks=[pytest.mark.slow, pytest.mark.timeout(7200)],
        ),
    ],
)
def test_tests_of_the_sdist_pass_on_the_wheel(tests: list[str], built: Path, unpacked: Path, tmp_path: Path) -> None:
    """Outside of the checkout: nothing that a test needs is missing, nothing is found by being here."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    tested = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout[-4000:]


def test_the_wheel_holds_every_file_of_the_package(unpacked: Path) -> None:
    package = {
        path.relative_to(ROOT / "src")
        for path in (ROOT / "src" / "mmattn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    conf = {Path("mmattn") / path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    assert Path("mmattn/conf/train.yaml") in conf
    assert any(path.suffix == ".j2" for path in package), "the reports' templates"
    inside = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert not (package | conf) - inside


def test_configs_compose_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    """From another directory, so that nothing is found by being in the checkout."""
    result = subprocess.run(
        [sys.executable, "-c", COMPOSE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(result.stdout)
    assert found["dir"] == str(unpacked / "mmattn" / "conf")
    assert found["config"]["fusion"]["_target_"] == "mmattn.fusion.late.LateFusion"
    assert found["config"]["fusion"]["dim"] == 16
    assert found["built"] == "ClipSpec"
