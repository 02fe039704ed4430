"""Targets: only what configs on this machine name can be built, and classes of trusted packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmattn.config.compose import build
from mmattn.config.targets import TRUST, check_trust, environment
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError

TRAP = "import pathlib; pathlib.Path({mark!r}).touch()\ndef call(*args, **kwargs): pathlib.Path({mark!r}).touch()\n"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable module `trap` that leaves a mark when it is imported or called; returns the mark's path."""
    mark = tmp_path / "mark"
    (tmp_path / "trap.py").write_text(TRAP.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield mark
    sys.modules.pop("trap", None)


def test_the_trap_works(trap: Path) -> None:
    from hydra.utils import instantiate

    instantiate({"_target_": "trap.call"})
    assert trap.is_file()


@pytest.mark.parametrize(
    "place",
    [
        lambda target: {"_target_": target},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": {"_target_": target}},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": [1, {"_target_": target}]},
        lambda target: {"_target_": "mmattn.data.manifest.sources.FolderSource", "_args_": [{"_target_": target}]},
        lambda target: {"_target_": target, "_partial_": True},
        lambda target: {"_target_": [target]},
        lambda target: {"_target_": {"_target_": target}},
        lambda target: {"a": {"b": {"_target_": target}}},
    ],
    ids=["top", "argument", "list", "positional", "partial", "in a list", "nested", "deep"],
)
def test_a_target_outside_conf_is_refused_before_it_is_imported(place, trap: Path) -> None:
    with pytest.raises(UsageError, match=r"trap\.call.* is (code of the package|not a class)"):
        build(place("trap.call"))
    assert not trap.exists()
    assert "trap" not in sys.modules


def test_a_target_that_the_users_configs_name_may_be_built(trap: Path, own: Path) -> None:
    (own / "fusion" / "trap.yaml").write_text("a: [{_target_: trap.call}]\n")
    build({"_target_": "trap.call"})
    assert trap.is_file()


def test_trust_is_for_the_classes_that_a_package_defines(
    tmp_path: Path, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import trap\nfrom trap import call\nclass Own: pass\nclass_of = lambda: 1\n")
    spec = {"_target_": "mine.Own"}
    with pytest.raises(UsageError, match="add trust=mine"):
        build(spec)
    with environment(**{TRUST: check_trust(["mine"])}):
        assert type(build(spec)).__name__ == "Own"
        trap.unlink()  # what was imported with it
        for other in ("mine.call", "mine.trap.call", "mine.class_of", "mine.Missing", "trap.call"):
            with pytest.raises(UsageError, match=r"is no class that|code of the package|cannot be imported"):
                build({"_target_": other})
    with pytest.raises(UsageError, match="add trust=mine"):
        build(spec)
    assert not trap.exists()


@pytest.mark.parametrize("package", ["os", "mmattn", "a.b", "", "builtins"])
def test_what_is_no_package_of_somebodys_cannot_be_trusted(package: str) -> None:
    with pytest.raises(UsageError, match="installed package"):
        check_trust([package])


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="needs the package not_here, which is not installed"):
        build({"_target_": "not_here.Fusion"})


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "os.system",
        "builtins.exec",
        "builtins.eval",
        "numpy.load",
        "subprocess.run",
        "mmattn.config.compose.os.system",
        "mmattn.checkpoint.os.system",
        "pathlib.Path.write_text",
        "mmattn.fusion.late",
        "mmattn.fusion.late.LateFusion.__init__",
        "mmattn.fusion.late.LateFusion ",
        "mmattn.files.write_atomically",
        "",
        None,
        3,
    ],
)
def test_known_ways_out_are_refused(target: object) -> None:
    with pytest.raises(UsageError, match=r"is (not a class|code of the package)"):
        build({"_target_": target, "path": "x"})


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "a${oc.env:HOME}", "${root}", "${oc.create:{a:1}}", "a\\${x", "$${a}\\\\", "${${a}}${"]
)
def test_a_value_is_text_and_refers_to_nothing(value: str) -> None:
    spec = {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": value}
    assert build(spec).root == build({"_target_": spec["_target_"]}, root=value).root


@pytest.mark.parametrize(
    "spec",
    [
        {"_target_": "mmattn.data.manifest.sources.FolderSource"},
        {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": "???"},
        {"_target_": "mmattn.data.manifest.sources.FolderSource", "root": "a", "rot": 1},
        {"_target_": "mmattn.data.prepare.clips.ClipSpec", "seconds": -1},
        {"_target_": "mmattn.fusion.late.LateFusion", "dim": 6, "heads": 4, "attention": None},
        "mmattn.data.manifest.sources.FolderSource",
        None,
        [],
        3,
        {},
    ],
    ids=str,
)
def test_a_spec_that_does_not_fit_is_a_usage_error(spec: object) -> None:
    with pytest.raises(UsageError) as error:
        build(spec)
    assert "\n" not in str(error.value)


def test_a_wrong_value_beside_given_objects_is_a_usage_error(vocabulary: TagVocabulary) -> None:
    with pytest.raises(UsageError, match="Tagging"):
        build({"_target_": "mmattn.tasks.tagging.tagging.Tagging", "dim": -3}, vocabulary=vocabulary)
