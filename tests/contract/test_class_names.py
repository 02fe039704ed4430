"""A public class name means one thing in the whole house."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "mmattn"


def repeated(root: Path) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for file in sorted(root.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(root)))
    return {name: files for name, files in places.items() if len(files) > 1}


def test_no_two_public_classes_share_a_name():
    assert not repeated(SRC)


def test_a_repeated_name_is_found(tmp_path: Path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("class Word: ...\nclass _Word: ...\n")
    assert repeated(tmp_path) == {"Word": ["a.py", "b.py"]}
