"""mkdocs' hook: pages that follow from the program, and links from docs/ to files beside it.

Commands are what `mmattn VERB --help` prints, configuration is conf/ as it stands, Python is docstrings.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mmattn.cli.main import USAGE, VERBS, main
from mmattn.config.overrides import GROUPS

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {"CHANGELOG.md": "changes", "CONTRIBUTING.md": "contributing", "SECURITY.md": "security"}
PYTHON = """# Python

```python
import mmattn

predictor = mmattn.load("runs/x")          # or mmattn.load("pretrained")
result = predictor("clip.mp4")
print(result.tags, result.captions)
```

"""
PUBLIC = (  # what other programs build on, in the order of the rooms
    "mmattn",
    "mmattn.types",
    "mmattn.encoders.interface",
    "mmattn.attention.interface",
    "mmattn.fusion.interface",
    "mmattn.model",
    "mmattn.checkpoint",
    "mmattn.inference.predictor.pipeline",
    "mmattn.inference.records.result",
    "mmattn.inference.annotators.base.interface",
    "mmattn.errors",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not written by hand."""
    pages = {"commands": commands(), "configuration": configuration(), "python": python()}
    pages |= {name: _from_above((ROOT / file).read_text(encoding="utf-8")) for file, name in BESIDE.items()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from docs/ to a page that stands beside it lead to its copy here."""
    for file, name in BESIDE.items():
        markdown = markdown.replace(f"](../{file}", f"](reference/{name}.md")
    return markdown


def commands() -> str:
    """What each verb prints for --help."""
    parts = [f"# Commands\n\n```text\n{USAGE}```\n"]
    for verb in VERBS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            main([*verb.split(), "--help"])
        parts.append(f"## {verb}\n\n```yaml\n{printed.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def configuration() -> str:
    """Every file of conf/, group by group."""
    parts = [
        "# Configuration\n\nA group's file is chosen by its name: `fusion=late`. A key below it: `fusion.depth=2`.\n"
    ]
    for group in GROUPS:
        parts.append(f"## {group}\n")
        parts += [_choice(path) for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
    return "\n".join(parts)


def _choice(path: Path) -> str:
    return f"### {path.parent.name}={path.stem}\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"


def python() -> str:
    """One section for each public module."""
    return PYTHON + "\n\n".join(f"::: {name}" for name in PUBLIC) + "\n"


def _from_above(text: str) -> str:
    """A page of the repository's root as it reads from reference/."""
    text = re.sub(r"\]\(docs/", "](../", text)
    for file, name in BESIDE.items():
        text = text.replace(f"]({file}", f"]({name}.md")
    return text.replace("[LICENSE](LICENSE)", "`LICENSE`")
