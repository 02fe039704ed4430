"""`mmattn compare` on trained runs: what they cost, and a plan that trains its grid first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from mmattn.cli import main
from mmattn.config import compose
from mmattn.errors import UsageError
from mmattn.reports.carry_out import carry_out
from mmattn.reports.collect import cost
from mmattn.reports.plan import PLAN_FILE, read_plan
from mmattn.weighting.clip_scores import load_clip_scores


def test_operations_and_memory_are_counted_exactly() -> None:
    """Three products of 64 x 64; at most the input's first product, the second and their sum are alive."""
    x, size = torch.ones(64, 64), 64 * 64 * 4

    def forward() -> torch.Tensor:
        a = x @ x
        b = a @ x
        c = a + b
        del a, b
        return c @ x

    flops, peak = cost._count(forward)
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
    assert "mmattn evaluate" in page and "without the scores of each clip" in page
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


def plan_file(path: Path, runs: Path, small: list[str], **changed) -> Path:
    overrides = [*small, "trainer.epochs=1", "logger=none"]
    plan = {"out": str(runs), "split": "test", "overrides": overrides}
    plan["grid"] = {"seed": [0, 1], "fusion": ["late", "recurrent"], "attention": ["dense", "time_window"]}
    path.write_text(yaml.safe_dump(plan | changed, sort_keys=False))
    return path


def test_a_plan_trains_what_is_missing_and_then_makes_the_page(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    small = [one for one in small if one != "fusion.layers=1"]
    plan, runs, out = tmp_path / "plan.yaml", tmp_path / "runs", tmp_path / "page" / "c.html"
    plan_file(plan, runs, small, grid={"seed": [0, 1], "fusion": ["late", "recurrent"], "attention": ["time_window"]})
    assert main(["compare", f"plan={plan}", "--dry-run"]) == 0
    told = capsys.readouterr().err
    assert "4 runs, 0 of them done" in told and "left out: attention=time_window: RecurrentFusion" in told
    assert "2 runs to do, about" in told and not runs.exists()
    assert main(["compare", f"plan={plan}", f"out={out}", "samples=1"]) == 0
    told = capsys.readouterr().err
    assert "[2/2]" in told
    page = json.loads((tmp_path / "page" / "c.json").read_text())
    assert [row["seeds"] for row in page["rows"]] == [["0", "1"]] and page["split"] == "test"
    scored = load_clip_scores(runs / "seed_0-late-time_window" / "evaluation-test-scores.safetensors")
    record = json.loads((runs / "seed_0-late-time_window" / "evaluation-test.json").read_text())
    assert len(scored.ids) == record["clips"] > 0
    assert out.is_file()

    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    done = runs / "seed_1-late-time_window" / "evaluation-test.json"
    done.unlink()
    assert carry_out(plan) == runs
    assert done.is_file() and "[1/1]" in capsys.readouterr().err, "only what is missing"
    changed = {path.parent.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {done.parent.name}

    plan_file(plan, runs, [*small, "optim.lr=0.5"])
    with pytest.raises(UsageError, match="other settings than the plan's"):
        carry_out(plan)
    assert json.loads((done.parent / PLAN_FILE).read_text())[-1] == f"run={done.parent}"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"grid": {}}, "lists of values"),
        ({"grid": {"fusion": "late"}}, "lists of values"),
        ({"grid": {"fusion": ["late", "late"]}}, "the same name"),
        ({"grid": {f"k{i}": list(range(10)) for i in range(5)}}, "100000 runs"),
        ({"split": "all"}, "one of train, val, test"),
        ({"overrides": "x=1"}, "list of key=value"),
        ({"more": 1}, "more is no key"),
        ({"out": None}, "out: a folder"),
    ],
)
def test_a_wrong_plan_is_one_line(tmp_path: Path, changed: dict, says: str) -> None:
    plan = plan_file(tmp_path / "plan.yaml", tmp_path / "runs", [], **changed)
    with pytest.raises(UsageError, match=says) as caught:
        carry_out(plan)
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


def test_a_plan_may_try_a_group_and_its_absence(tmp_path: Path) -> None:
    plan = plan_file(tmp_path / "plan.yaml", tmp_path / "runs", [], grid={"regulariser": [None, "entropy"]})
    (without, with_it) = read_plan(plan)[1]
    assert not compose("train", without.overrides).get("regulariser")
    assert compose("train", with_it.overrides)["regulariser"]
    assert [cell.run.name for cell in (without, with_it)] == ["regulariser_None", "entropy"]


def test_a_fusion_without_attention_is_in_a_grid_once(tmp_path: Path) -> None:
    _, cells = read_plan(plan_file(tmp_path / "plan.yaml", tmp_path / "runs", []))
    fit = [cell.run.name for cell in cells if _composes(cell.overrides)]
    assert fit == [f"seed_{s}-{pair}" for s in (0, 1) for pair in ("late-dense", "late-time_window", "recurrent-dense")]


def _composes(overrides: Sequence[str]) -> bool:
    try:
        compose("train", overrides)
    except UsageError as error:
        assert "RecurrentFusion takes no attention" in str(error)
        return False
    return True


def test_packaged_plans_are_found_by_name_and_whole() -> None:
    out, cells = read_plan(Path("fusion_by_attention"))
    assert len(cells) == 8 * 6 * 3 and out == Path("runs/fusion_by_attention")
    assert len(read_plan(Path("conf/compare/fusion_by_attention_small.yaml"))[1]) == 24
    with pytest.raises(UsageError, match="fusion_by_attention"):
        read_plan(Path("nothing"))
