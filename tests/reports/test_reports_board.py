"""The dashboard: shown before it is sent, whole, and made of what runs have logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_runs import make_run

from mmattn.cli import main
from mmattn.reports.workspace.dashboard import STEP, build, metric_names, views

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # wandb's own, on import
LOGGED = [
    "train/loss", "val/loss", "val/mAP", "val/mAP/sound", "val/mean_accuracy", "val/shapley/video", "val/shapley/audio",
    "val/shapley/synergy", "val/permutation/audio", "val/attention_log_ratio/cross.0/video/head0/audio",
    "train/gradient_share/audio", "val/captions/cider_d",
]  # fmt: skip


def test_what_would_be_sent_is_written_and_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path / "a")
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(dict.fromkeys(LOGGED, 0.5)) + "\n")
    out = tmp_path / "d.json"
    assert main(["dashboard", f"runs=[{run}]", f"out={out}", "project=p"]) == 0
    assert "nothing was sent" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["sent"] == [] and record["project"] == "p" and record["runs"] == [str(run)]
    assert [section["name"] for section in record["sections"]] == [
        "Scores", "Sound or picture, causal", "Sound or picture, descriptive", "Sound or picture, training",
    ]  # fmt: skip
    shown = {name for section in record["sections"] for panel in section["panels"] for name in panel["y"]}
    assert set(LOGGED) <= shown


def test_without_an_account_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("wandb_workspaces")
    run = make_run(tmp_path / "a")
    assert main(["dashboard", f"runs=[{run}]", f"out={tmp_path / 'd.json'}", "online=true"]) == 2
    assert "online=true needs an account" in capsys.readouterr().err and not (tmp_path / "d.json").exists()
    (run / "metrics.jsonl").unlink()
    assert main(["dashboard", f"runs=[{run}]"]) == 2
    assert "has logged a metric yet" in capsys.readouterr().err


def test_panels_are_of_what_was_logged_only(tmp_path: Path) -> None:
    assert views([]) == []
    (section,) = views(["val/mAP"])
    assert [panel.title for panel in section.panels] == ["mAP by family", "mAP"]
    assert metric_names([make_run(tmp_path / "a"), tmp_path / "nowhere"]) == ["train/loss", "val/mAP"]


def test_wandbs_own_objects_hold_every_panel() -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    reports = pytest.importorskip("wandb_workspaces.reports.v2")
    sections = views(LOGGED)
    workspace, report = build("me", "p", "name", sections, reports, workspaces)
    sent = workspace._to_model().model_dump_json(by_alias=True)  # what its save() sends
    for section in sections:
        assert section.name in sent
        for panel in section.panels:
            assert all(name in sent for name in panel.y), panel
    assert STEP in sent and len(report.blocks) == 3 * len(sections)
