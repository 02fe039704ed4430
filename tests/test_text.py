"""Text of others, as it is stored."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from mmattn.inference.writers.formats.csv import CSV
from mmattn.reports.page.export import to_csv
from mmattn.text import cell, counted

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a\u2212"
BEFORE = ["", " ", "\t", "\r", "\n", "\r\n", "  \n", "\u3000", "\xa0", "\ufeff", "\u200b", "\x00", "\u2028"]


@pytest.mark.parametrize("before", BEFORE, ids=ascii)
@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_no_cell_is_a_formula(before: str, sign: str, tmp_path: Path) -> None:
    text = f"{before}{sign}cmd()"
    assert cell(text).startswith("'")
    ((_,), (found,)) = csv.reader(io.StringIO(to_csv([{"a": text}]), newline=""))
    assert found.startswith("'")
    CSV().write([{"id": text, "path": text, "status": "failed", "reason": "crashed", "detail": text}], tmp_path / "a")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "a").read_bytes().decode(), newline=""))
    assert all(row[name].startswith("'") for name in ("id", "path", "detail"))


@pytest.mark.parametrize("text", ["a=b", "plain", "", "3 - 2", "'=x", "ünï", " a", "\u200f\u05e9\u05dc", "(=x)"])
def test_other_text_stays(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize("text", ["\ta", "\ra", "\na"])
def test_what_begins_with_a_tab_or_a_line_break_is_text(text: str) -> None:
    assert cell(text).startswith("'")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\x85", "\u2028"], ids=ascii)
def test_a_line_break_in_a_cell_begins_no_row(end: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv([{"a": f"x{end}=cmd()", "b": 1}]), newline="")))
    assert len(rows) == 2 and rows[1][1] == "1"


def test_one_is_not_many() -> None:
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(n, "batch") for n in (1, 2)] == ["1 batch", "2 batches"]
    assert [counted(n, "val clip") for n in (1, 2)] == ["1 val clip", "2 val clips"]
