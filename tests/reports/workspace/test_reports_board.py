"""The dashboard: shown before it is sent, whole, and made of what runs have logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import make_run
from wandb_stand_in import stand_in

from mmattn.cli.main import main
from mmattn.reports.workspace.dashboard import metric_names
from mmattn.reports.workspace.send import RunFilter, build, run_filter
from mmattn.reports.workspace.views import STEP, views

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
    workspace, report = build("me", "p", "name", sections, RunFilter("ID", ("a1", "b2")), reports, workspaces)
    sent = workspace._to_model().model_dump_json(by_alias=True)  # what its save() sends
    for section in sections:
        assert section.name in sent
        for panel in section.panels:
            assert all(name in sent for name in panel.y), panel
    assert STEP in sent and len(report.blocks) == 3 * len(sections)


def test_a_dashboard_is_of_the_runs_that_were_named(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    assert run_filter(runs) == RunFilter("Name", ("a", "b")), "from before runs had ids"
    for run, name in zip(runs, ("a1b2", "c3d4"), strict=True):
        (run / "run.json").write_text(json.dumps({"id": name}))
    assert run_filter(runs) == RunFilter("ID", ("a1b2", "c3d4"))


def test_what_is_sent_arrives_at_a_server(tmp_path: Path) -> None:
    """wandb's own client and serialisation, against a stand-in of the service on this machine."""
    pytest.importorskip("wandb_workspaces")
    run = make_run(tmp_path / "a")
    (run / "run.json").write_text(json.dumps({"id": "a1b2c3d4"}))
    with stand_in() as (address, asked):
        own = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        own |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
        own |= {"WANDB_ERROR_REPORTING": "false", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "mmattn", "dashboard", f"runs=[{run}]", "project=p", "online=true"]
        done = subprocess.run([*command, f"out={tmp_path / 'd.json'}"], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + json.dumps([one["operation"] for one in asked])
    sent = [one["variables"] for one in asked if "upsertView" in one["query"]]
    assert [one["type"] for one in sent] == ["project-view", "runs"]
    for one in sent:
        assert (one["entityName"], one["projectName"]) == ("me", "p")
        spec = json.loads(one["spec"])
        assert "a1b2c3d4" in json.dumps(spec) and "val/mAP" in json.dumps(spec), "the run alone, and its metrics"
    record = json.loads((tmp_path / "d.json").read_text())
    assert record["filter"] == {"key": "ID", "values": ["a1b2c3d4"]}
    assert len(record["sent"]) == 2 and all(link.startswith("http") for link in record["sent"])
