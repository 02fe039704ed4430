"""What docs/cluster.md and the files that it names tell people to type can be typed, and names what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from mmattn.cli.main import VERBS
from mmattn.config.compose import compose
from mmattn.training.distributed.launcher import launcher_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
MANIFEST = (ROOT / "scripts" / "kubernetes" / "train.yaml").read_text()
RECIPES = [ROOT / "Dockerfile", ROOT / "scripts" / "container" / "mmattn.def"]


def commands() -> list[str]:
    """Of the page, its tables included, and of the manifest."""
    fenced = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()] + re.findall(r"`([a-z][^`\n]* [^`\n]*)`", PAGE)
    return [*lines, *(line.strip() for line in MANIFEST.splitlines() if "exec mmattn" in line)]


def mmattn_of(command: str) -> list[str] | None:
    """The arguments that mmattn gets from it, if it does."""
    words = [word.replace("$run", "/runs/first") for word in shlex.split(command)]
    scripts = {"train.sbatch": ["train"], "train_again.sh": ["train"], "predict.sbatch": ["predict", "engine=slurm"]}
    scripts |= {"predict_one_node.sbatch": ["predict"], "ray.sbatch": ["predict", "engine=ray"]}
    for k, word in enumerate(words):
        if (name := word.rpartition("/")[2]) in scripts:
            rest = words[k + 1 :]
            first = [f"run={rest.pop(0)}"] if scripts[name][0] == "train" else []
            return [*scripts[name], *first, *rest]
        if name in ("mmattn", "mmattn.sif") and words[k + 1 : k + 2] and words[k + 1] in VERBS:
            return words[k + 1 :]
    return None


def test_every_kind_of_command_is_looked_at() -> None:
    found = [arguments for command in commands() if (arguments := mmattn_of(command))]
    assert len(found) >= 15 and {arguments[0] for arguments in found} == {"train", "predict", "doctor"}


@pytest.mark.parametrize("command", [command for command in commands() if mmattn_of(command)])
def test_what_is_shown_can_be_asked_for(command: str) -> None:
    arguments = mmattn_of(command)
    assert arguments
    verb, *overrides = [word for word in arguments if word not in ("-m", "...")]
    config = compose(verb, overrides)
    if verb == "train" and not config["resume"]:
        launcher, devices = launcher_of(config), config["trainer"]["devices"] or 8
        assert config["data"]["batch_size"] % (launcher.nodes * devices) == 0


def test_files_and_settings_that_are_named_exist() -> None:
    for name in re.findall(r"(?:scripts|tests)/[\w/]+\.\w+", PAGE):
        assert (ROOT / name).is_file(), name
    keys = {key for file in (ROOT / "conf" / "launcher").glob("*.yaml") for key in yaml.safe_load(file.read_text())}
    keys |= yaml.safe_load((ROOT / "conf" / "trainer" / "default.yaml").read_text()).keys()
    assert set(re.findall(r"\b(?:launcher|trainer)\.(\w+)", PAGE)) <= keys


@pytest.mark.parametrize("file", sorted((ROOT / "scripts").rglob("*.s*h*")), ids=lambda file: file.name)
def test_job_files_are_bash(file: Path) -> None:
    assert subprocess.run(["bash", "-n", str(file)], capture_output=True).returncode == 0


def test_the_manifest_fits_together() -> None:
    service, claim, job = yaml.safe_load_all(MANIFEST)
    spec, name = job["spec"], job["metadata"]["name"]
    assert job["kind"] == "Job" and spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    first = next(line for line in container["args"][0].splitlines() if "data=" in line)
    config = compose("train", (mmattn_of(first.strip()) or [])[1:])
    assert config["launcher"]["nodes"] == spec["completions"] == spec["parallelism"]
    assert config["trainer"]["devices"] == container["resources"]["limits"]["nvidia.com/gpu"]
    host = config["launcher"]["endpoint"].partition(":")[0]
    assert host == f"{name}-0.{service['metadata']['name']}" and pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert f"run={config['run']}" in container["args"][0].splitlines() and config["run"].startswith(mounts["runs"])
    assert config["data"]["root"] == mounts["data"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "runs"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_images_install_what_there_is_and_are_checked(file: Path) -> None:
    text = file.read_text()
    (extras,) = re.findall(r"'/src\[([\w,]+)\]'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    for name in re.findall(r"^(?:COPY| {4}(?=\S+ /src))(.*) /src\S*$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in name.split()), name
    assert "mmattn doctor " in text and "nvidia/cuda" in text


def test_the_docker_image_runs_without_root_and_is_checked_so() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    user = lines.index("USER mmattn")
    assert not any(line.startswith("USER") for line in lines[user + 1 :])
    assert next(k for k, line in enumerate(lines) if line.startswith("RUN mmattn doctor")) > user
