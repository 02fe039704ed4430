"""Every public method has a docstring, of its own or of the interface that it implements."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SRC = Path(__file__).parents[2] / "src" / "mmattn"
# Bases that document no methods of a class; other bases from outside mmattn (nn.Module, Callback) document their own.
SILENT = {"ABC", "Generic", "NamedTuple", "Protocol", "TypedDict"}


class _Class(NamedTuple):
    place: str
    bases: list[str]
    methods: dict[str, bool]  # name -> has a docstring


def _classes(root: Path) -> dict[str, list[_Class]]:
    found: dict[str, list[_Class]] = defaultdict(list)
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
                methods: dict[str, bool] = {}
                for each in node.body:
                    if isinstance(each, ast.FunctionDef):  # a property and its setter are one
                        methods[each.name] = methods.get(each.name, False) or bool(ast.get_docstring(each))
                found[node.name].append(_Class(f"{file.relative_to(root)}: {node.name}", bases, methods))
    return found


def undocumented(root: Path) -> list[str]:
    classes = _classes(root)

    def documented(name: str, method: str) -> bool:
        if name not in classes:
            return name not in SILENT
        return any(each.methods.get(method) or any(documented(b, method) for b in each.bases) for each in classes[name])

    return [
        f"{each.place}.{method}"
        for name, several in classes.items()
        for each in several
        for method, has in each.methods.items()
        if not (has or name.startswith("_") or method.startswith("_") or any(documented(b, method) for b in each.bases))
    ]


def test_every_public_method_is_documented():
    assert not undocumented(SRC)


def test_a_method_without_a_docstring_is_found(tmp_path: Path):
    (tmp_path / "module.py").write_text(
        'class Base:\n    def run(self):\n        """Runs."""\n\n\n'
        "class Child(Base):\n    def run(self): ...\n    def stop(self): ...\n"
    )
    assert undocumented(tmp_path) == ["module.py: Child.stop"]
