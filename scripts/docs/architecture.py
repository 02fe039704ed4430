"""docs/architecture.svg: the rooms and who may import whom. `python scripts/docs/architecture.py [OUT]`

A row is a layer of `[tool.importlinter]` in pyproject.toml: it imports only from rows below. What a room is for is the
first line of its docstring.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIDTH, GAP, PAD, HEAD, LINE = 920, 10, 12, 33, 16
LETTER = 6.4  # a letter's width, px
MOST_WITH_TEXT = 4  # boxes in a row
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1a1a1a } .name { font-weight: 600 } .for { font-size: 12px; fill: #555 }
rect { fill: #f3f5f9; stroke: #b8c2d3 } .ground rect { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #eee } .for { fill: #aaa } rect { fill: #242a35; stroke: #4a566b }
.ground rect { fill: #181c24 } }
</style>"""


def layers() -> list[list[str]]:
    """Rooms by layer, the highest first; `(name)` in the contract is one that need not be there."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (order,) = (contract for contract in contracts if contract["id"] == "order")
    return [re.findall(r"\w+", layer) for layer in order["layers"] if layer != "__main__"]


def purpose(room: str) -> str:
    """The first sentence of a room's docstring, without where to read on."""
    path = ROOT / "src" / "mmattn" / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[:1]
    return re.sub(r" See docs/.*$", "", " ".join(text)).replace("`", "").rstrip(".")


def picture() -> str:
    """The whole SVG."""
    body, y = [], GAP
    for names in layers():
        ground = not any((ROOT / "src" / "mmattn" / name).is_dir() for name in names)
        width = (WIDTH - GAP * (len(names) + 1)) / len(names)
        fits = int((width - 2 * PAD) / LETTER)
        texts = [textwrap.wrap(purpose(name), fits) if len(names) <= MOST_WITH_TEXT else [] for name in names]
        height = HEAD + LINE * max(map(len, texts))
        for k, (name, lines) in enumerate(zip(names, texts, strict=True)):
            body += _box(name, lines, GAP + k * (width + GAP), y, width, height, ground)
        y += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">\n'
        f"<title>The rooms of mmattn: each imports only from rows below</title>\n{STYLE}\n"
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _box(name: str, lines: list[str], x: float, y: int, width: float, height: int, ground: bool) -> list[str]:
    return [
        f'<g class="{"ground" if ground else "room"}">',
        f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="6"/>',
        f'<text class="name" x="{x + PAD:.0f}" y="{y + 21}">{escape(name)}</text>',
        *(
            f'<text class="for" x="{x + PAD:.0f}" y="{y + 39 + LINE * k}">{escape(line)}</text>'
            for k, line in enumerate(lines)
        ),
        "</g>",
    ]


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "architecture.svg"
    out.write_text(picture(), encoding="utf-8")
