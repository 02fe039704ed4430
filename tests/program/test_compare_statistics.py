"""What an evaluation keeps of each clip is what a comparison's tests are made of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmattn.cli.main import main
from mmattn.reports.collect.cost import Cost, measure_costs, read_cost
from mmattn.reports.collect.groups import group_runs
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page.rows import plain_score
from mmattn.reports.statistics.scored import Scored
from mmattn.reports.statistics.significance import compare
from mmattn.weighting.clip_scores import load_clip_scores, scores_file


def test_every_weighting_of_an_evaluation_follows_from_its_clips(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation-*", "cost.json"))
    assert main(["evaluate", f"run={run}", "split=test"]) == 0
    scores = load_clip_scores(scores_file(run, "test"))
    assert scores.videos is not None and len(set(scores.videos)) == len(scores.ids), "each of its own file"
    assert scores.attention is not None and set(scores.permuted) == {"video", "audio"}
    groups = group_runs(collect_runs([run]))
    assert groups[0].mean.scores.split == "test"
    for metric in ("mAP", "shapley/video", "shapley/audio", "shapley/synergy", "shapley/balance", "permutation/audio",
                   "permutation/video", "attention", "accuracy", "shapley/audio/synergy", "mAP/sound"):  # fmt: skip
        found = compare(Scored(groups), metric).estimates[0]
        assert found is not None, metric
        assert found.value == pytest.approx(plain_score(groups[0].mean, metric), abs=2e-3), metric
        assert found.low <= found.value <= found.high
    out = tmp_path / "c.html"
    assert main(["compare", f"runs=[{run}]", f"out={out}", "metric=shapley/audio", "measure=none"]) == 0
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["metric"] == "shapley/audio" and record["rows"][0]["low"] is not None
    assert {row["weighting"] for row in record["weightings"]} >= {"shapley/audio", "permutation/video", "attention"}


def test_what_is_missing_is_evaluated_when_asked_to(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation-*", "cost.json"))
    out, scores = tmp_path / "c.html", scores_file(run, "val")
    asked = ["compare", f"runs=[{run}]", f"out={out}", "measure=none", "samples=0"]
    assert main(asked) == 0 and not scores.exists(), "nobody is there to be asked"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(asked) == 0 and not scores.exists()
    assert "1 run to evaluate on the val clips, for intervals and tests, about" in capsys.readouterr().err
    assert main([*asked, "evaluate=missing"]) == 0 and scores.is_file()
    capsys.readouterr()
    assert main([*asked, "evaluate=missing"]) == 0 and "to evaluate" not in capsys.readouterr().err
    assert main([*asked, "evaluate=perhaps"]) == 2 and "expected ask, missing or none" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_timed_beside_the_processor(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("cost.json"))
    (cost,) = measure_costs([run])
    assert isinstance(cost, Cost) and cost.gpu is not None and cost.gpu.peak_bytes > 1000
    assert 0 < cost.gpu.time.low <= cost.gpu.time.ms <= cost.gpu.time.high and read_cost(run) == cost
