"""examples/compare.ipynb runs, and shows the numbers of a comparison; the page that it belongs to is small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "examples" / "compare.ipynb"


@pytest.fixture(scope="module")
def shown() -> Iterator[dict[str, Any]]:
    """The variables after all cells have run."""
    pytest.importorskip("pandas")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    values: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(NOTEBOOK.parent)
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), values)
    yield values
    values["plt"].close("all")


def test_its_figures_show_every_row(shown: dict[str, Any]) -> None:
    names = [row["name"] for row in shown["comparison"]["rows"]]
    (scores,) = shown["scores"].axes
    assert [label.get_text().partition(" (")[0] for label in scores.get_yticklabels()] == names
    dots = [line for line in scores.lines if line.get_color() == "black"]
    assert [line.get_xdata()[0] for line in dots] == [row["score"] for row in shown["comparison"]["rows"]]
    assert [axis.get_title() for axis in shown["splits"].axes] == names
    assert all(len(axis.patches) == 2 * shown["families"].family.nunique() for axis in shown["splits"].axes)


def test_it_is_a_notebook() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_the_example_page_is_small_whole_and_of_the_same_numbers() -> None:
    page = ROOT / "docs" / "example_report.html"
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1_000_000 and text.rstrip().endswith("</html>")
    assert 'src="http' not in text and "default-src 'none'" in text
    for row in json.loads((ROOT / "examples" / "compare.json").read_text(encoding="utf-8"))["rows"]:
        assert f"{row['score']:.3f}" in text
