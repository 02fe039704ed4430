"""An installed mmattn has all that a checkout has: its configs and its templates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = """
import json, sys
from mmattn.config import build, compose, conf_dir
config = compose("train", ["fusion=late", "dim=16"])
print(json.dumps({"dir": str(conf_dir()), "config": config, "built": type(build(config["data"]["clip"])).__name__}))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


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
