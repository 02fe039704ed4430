"""`mmattn compare` on trained runs: what they cost, and that nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmattn.cli.main import main
from mmattn.reports.collect import cost
from mmattn.reports.collect.counting import count


def test_operations_and_memory_are_counted_exactly() -> None:
    """Three products of 64 x 64; at most the input's first product, the second and their sum are alive."""
    x, size = torch.ones(64, 64), 64 * 64 * 4

    def forward() -> torch.Tensor:
        a = x @ x
        b = a @ x
        c = a + b
        del a, b
        return c @ x

    flops, peak = count(forward)
    assert flops == 3 * 2 * 64**3 and peak == 3 * size


def test_what_a_model_costs_is_measured_once(trained: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    # A copy: other tests may have evaluated the run that they share.
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation-*", "cost.json"))
    out = tmp_path / "c.html"
    assert main(["compare", f"runs=[{run}]", f"out={out}"]) == 0
    assert "measuring the cost of 1 model" in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert 0 < row["latency_low"] <= row["latency_ms"] <= row["latency_high"]
    assert row["flops"] > 1e5 and row["peak_bytes"] > 1e4 and row["training_s"] > 0
    lengths = json.loads((tmp_path / "c.json").read_text())["lengths"]
    assert [one["seconds"] for one in lengths] == [3.0, 6.0, 12.0]
    assert lengths[0]["flops"] < lengths[1]["flops"] < lengths[2]["flops"]
    page = out.read_text(encoding="utf-8")
    assert "mmattn evaluate" in page and "without per-clip scores" in page
    assert main(["compare", f"runs=[{run}]", f"out={out}"]) == 0
    assert "measuring" not in capsys.readouterr().err
    known = cost.read_cost(run)
    assert known is not None and known.flops == row["flops"]
    (run / "model.safetensors").touch()
    assert cost.read_cost(run) is None, "another model"
    assert main(["compare", f"runs=[{run}]", f"out={out}", "measure=all"]) == 0


def test_a_run_without_a_model_has_no_cost(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (found,) = cost.measure_costs([tmp_path / "a"])
    assert isinstance(found, str) and "no such model" in found


def test_compare_only_reads(capsys: pytest.CaptureFixture) -> None:
    assert main(["compare", "plan=fusion_by_attention"]) == 2
    assert "mmattn train -m grid=fusion_by_attention" in capsys.readouterr().err
