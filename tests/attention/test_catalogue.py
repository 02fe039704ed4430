"""`mmattn show attention` says what the mechanisms are: all of them, and nothing that they do not do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmattn.attention.catalogue import HEADER, table
from mmattn.attention.interface import STATS
from mmattn.cli.main import main
from mmattn.config.compose import build, group_choices, read_choice


def _rows() -> dict[str, list[str]]:
    lines = table().split("\n\n")[0].splitlines()
    assert [cell.strip() for cell in re.split(r"\s{2,}", lines[0])] == list(HEADER)
    return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line) for line in lines[1:])}


def test_every_mechanism_has_a_whole_row_read_from_its_class() -> None:
    rows = _rows()
    assert list(rows) == group_choices("attention")
    for name, (time, memory, exact, statistics, reference) in rows.items():
        mechanism = build(read_choice("attention", name))(2, 8)
        assert (time, memory, reference) == (mechanism.time_cost, mechanism.memory_cost, mechanism.reference)
        assert exact == ("yes" if mechanism.exact else "no")
        assert set(statistics.split()) == (mechanism.supports or {"none"})
        assert mechanism.supports <= STATS


def test_a_choice_of_ones_own_is_listed_and_a_broken_one_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own = tmp_path / "attention"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "_target_: mmattn.attention.low_rank.latents.LatentAttention\n_partial_: true\nlatents: 3\n"
    )
    (own / "broken.yaml").write_text(
        "_target_: mmattn.attention.low_rank.latents.LatentAttention\n_partial_: true\nlatents: 0\n"
    )
    assert main(["show", "attention", "--config-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^mine +\(Lq", shown, re.MULTILINE)
    assert re.search(r"^broken +does not build: .*latents=0", shown, re.MULTILINE)
