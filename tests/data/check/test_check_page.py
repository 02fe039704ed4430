"""The page and the table of a check."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from mmattn.config.compose import compose
from mmattn.data.check.command import Checked
from mmattn.reports.library.check import REASONS, check_library, render, table


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.setdefault(tag, []).append(dict(attrs))


def test_the_page_is_one_file_and_hostile_names_are_inert(library: Path, checked: Checked) -> None:
    page = render(checked).decode("utf-8")
    tags = _Tags(page).found
    assert not {"img", "iframe", "link", "object", "a", "form"} & set(tags)
    assert not [name for each in tags.values() for attributes in each for name in attributes if name.startswith("on")]
    assert "&lt;img src=x onerror" in page and "\u202e" not in page and "\\u202e" in page
    assert "http:" not in page and "https:" not in page
    assert len(tags["script"]) == 1
    rows = [attributes for attributes in tags["tr"] if "data-kinds" in attributes]
    assert len(rows) == 19
    assert sum("duplicate" in row["data-kinds"] for row in rows) == 2


def test_the_only_script_that_may_run_is_the_pages_own(checked: Checked) -> None:
    import base64
    import hashlib
    import re

    page = render(checked).decode("utf-8")
    policy = next(m["content"] for m in _Tags(page).found["meta"] if m.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_a_long_list_is_cut_and_says_so(library: Path, tmp_path: Path) -> None:
    text = check_library(
        compose("data_check", [f"source={library}", f"out={tmp_path}", "isolated=false", "rows=3", "depth=header"])
    )
    page = (tmp_path / "report.html").read_text()
    assert "3 of 19, those with a finding first" in page
    assert text.startswith("19 files, ") and "6 not readable" in text
    assert "onerror" not in text or "\u202e" not in text


def test_the_table_names_what_matters(checked: Checked) -> None:
    text = table(checked)
    assert "3 not_media" in text and "2 unreadable" in text and "1 truncated" in text
    assert "h264" in text and "duplicates take" in text
    assert "\u202e" not in text and "\n.mp4" not in text, "no name can play tricks on the terminal"


def test_every_reason_is_explained() -> None:
    assert all(REASONS.values())
