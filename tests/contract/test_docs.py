"""What the pages tell people to type can be typed, what they link to is there, what is generated is up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import mmattn
from mmattn.cli import main as cli
from mmattn.config.compose import compose
from mmattn.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
ABOVE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "data/README.md")
PAGES = [*(ROOT / name for name in ABOVE), *sorted((ROOT / "docs").glob("*.md"))]
MENTIONED = " (in a sentence)"  # where the keys that a command needs may be left out
PLACEHOLDER = re.compile(r"\.\.\.|…|VERB|GROUP|key=value|=S$")
COMPOSES_NOTHING = re.compile(r"^mmattn (show|doctor|-|VERB|sweep ls)|--(help|info|cfg)|=NAME")
ONLY_SWEPT = re.compile(r"^-m$|=(interval|range|tag|choice)\(")
SUM = re.compile(r"([\w.]+)=([\w-]+(?:,[\w-]+)+)")  # fusion=late,cross of a sweep


class Composed(Exception):
    """A command came as far as its config."""


def commands() -> list[tuple[str, str]]:
    """(page, command): lines of bash blocks that begin with mmattn, and such pieces of code in sentences."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```(?:bash|console)\n(.*?)```", text, re.DOTALL)
        lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
        pieces = re.findall(r"(?<!`)`(mmattn [^`]*)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        found += [(page.name, line) for line in lines if line.startswith("mmattn ")]
        found += [(page.name + MENTIONED, " ".join(piece.split())) for piece in pieces]
    return [(page, command) for page, command in dict.fromkeys(found) if not COMPOSES_NOTHING.search(command)]


def test_every_page_for_users_has_commands_that_are_looked_at() -> None:
    pages = {page for page, _ in commands()}
    assert {
        "README.md",
        "predict.md",
        "training.md",
        "compare.md",
        "data.md (in a sentence)",
        "explain.md",
        "search.md",
    } <= pages
    assert len(commands()) >= 80


@pytest.mark.parametrize(("page", "command"), commands())
def test_what_is_shown_can_be_asked_for(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program takes it up to its config; files that it names need not be there."""

    def composed(verb: str, overrides: list[str]) -> None:
        compose(verb, overrides)
        raise Composed

    monkeypatch.setattr(cli, "compose", composed)
    monkeypatch.setenv("MMATTN_DEBUG", "1")
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.replace("--config-dir DIR", ""), comments=True)[1:]
    words = [word for word in words if not PLACEHOLDER.search(word)]
    if "-m" in words:  # each value of a sweep by itself; what is searched in is the engine's to read
        words = [word for word in words if not ONLY_SWEPT.search(word)]
        words = [SUM.sub(lambda found: f"{found[1]}={found[2].split(',')[0]}", word) for word in words]
    with pytest.raises((Composed, UsageError)) as ended:
        cli.main(words)
    incomplete = re.search("is not set; add", str(ended.value))
    assert ended.type is Composed or (MENTIONED in page and incomplete), ended.value


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_wraps(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 100 and not line.lstrip().startswith(("|", "![", "#"))]
    assert not [line for line in long if " " in re.sub(r"`[^`]*`", "", line).strip()]  # one piece of code is not cut


def test_the_picture_of_the_rooms_follows_from_the_import_contract() -> None:
    made = module(ROOT / "scripts" / "docs" / "architecture.py").picture()
    assert (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8") == made, (
        "python scripts/docs/architecture.py"
    )


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mmattn.__version__
    assert f"## {mmattn.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    pages = set(re.findall(r": ([\w.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert pages == {page.name for page in (ROOT / "docs").glob("*.md")}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
