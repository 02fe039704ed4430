"""`mmattn demo`, small: every step happens and the report is there. (That cross beats late needs the full size.)"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmattn.cli import main


def test_the_demo_ends_with_a_report(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "demo"
    extra = tmp_path / "mine.mp4"
    extra.write_text("not a video")
    options = [f"out={out}", f"videos={shapes}", "clips=24", "epochs=1", f"files=[{extra}]"]
    assert main(["demo", *options]) == 0
    report = out / "report.html"
    assert capsys.readouterr().out.strip() == str(report)
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    for fusion in ("late", "cross"):
        assert json.loads((out / fusion / "evaluation-test.json").read_text())["split"] == "test"
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert lines[-1]["status"] == "failed" and "truth" in lines[0]
