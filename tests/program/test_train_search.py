"""`mmattn train -m search=optuna` with real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mmattn.cli.main import main

pytest.importorskip("optuna")


def test_real_trainings_are_searched(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Two runs of one epoch, by a metric that a real evaluation has."""
    monkeypatch.chdir(tmp_path)
    more = ["logger=none", "trainer.epochs=1", "search.trials=2", "search.metric=val/f1/macro"]
    assert main(["train", "-m", "search=optuna", *small, *more, "dropout=interval(0,0.5)", "sweep=mine"]) == 0
    assert capsys.readouterr().out.count("dropout=") == 2
    for run in Path("runs/sweeps/mine").glob("00?,*"):
        assert (run / "finished.json").is_file() and (run / "model.safetensors").is_file()
    assert yaml.safe_load(Path("runs/sweeps/mine/best.yaml").read_text())["val/f1/macro"] >= 0
