"""Every message that a person may meet, with where it stands: `python scripts/docs/messages.py [FOLDER]`

Errors, what long work logs, and findings of the checks, as their f-strings are written; to be read in one go.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "src" / "mmattn"
SPOKEN = {"say", "log", "print", "warn", "Finding", "Issue"}


def messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each message of a module."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node
        if isinstance(call, ast.Call) and (isinstance(node, ast.Raise) or _name(call.func) in SPOKEN):
            for argument in call.args:
                if text := _text(argument):
                    yield call.lineno, text


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.expr) -> str:
    """What an f-string or a string says, as it is written."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else _text(part)
            for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""


if __name__ == "__main__":
    for file in sorted((ROOT / (sys.argv[1] if len(sys.argv) > 1 else "")).rglob("*.py")):
        for line, text in sorted(messages(ast.parse(file.read_text(encoding="utf-8")))):
            if " " in text:
                print(f"{file.relative_to(ROOT)}:{line}: {text}")
