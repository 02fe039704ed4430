"""What a run says of how it was trained: on which machines, how fast for what they could, and where the time went."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path

import pytest

from mmattn.cli.main import main

pytestmark = pytest.mark.usefixtures("warm")

OPTIONS = ["fusion=late", "logger=none", "trainer.log_every=1", "data.batch_size=2", "trainer.epochs=1"]


def test_a_run_is_profiled_and_names_machines_and_utilisation(small: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["trainer.profile=steps", "trainer.peak_tflops=0.001", "trainer.devices=2", "trainer.timeout_s=300"]
    assert main(["train", *small, *OPTIONS, *more, f"run={run}"]) == 0
    trace = json.loads(gzip.decompress((run / "profile" / "trace.json.gz").read_bytes()))
    assert any("aten::" in str(event.get("name")) for event in trace["traceEvents"])
    assert "Self CPU" in (run / "profile" / "table.txt").read_text()
    (start,) = json.loads((run / "run.json").read_text())["machines"]
    (host,) = start["hosts"]
    assert (host["host"], host["processes"], start["step"]) == (socket.gethostname(), 2, 0)
    assert {"gpus", "driver", "cuda", "nccl"} <= host.keys()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/step/mfu" in line]
    by_clip = [line["train/step/mfu"] / line["train/step/clips_per_s"] for line in steps]
    assert len(steps) > 3 and by_clip == pytest.approx([by_clip[0]] * len(steps))
    assert 1e6 < by_clip[0] * 2 * 1e9 < 1e10, "operations of a clip"


def test_operations_are_those_that_a_dry_run_foresees(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert main(["train", *small, *OPTIONS, "dry_run=true"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("a step: ")]
    assert main(["train", *small, *OPTIONS, "trainer.peak_tflops=1", f"run={run}"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    step = next(line for line in lines if "train/step/mfu" in line)
    found = step["train/step/mfu"] / step["train/step/clips_per_s"] * 2 * 1e12
    assert found == pytest.approx(float(line.split()[2].replace(",", "")) * 1e9, rel=0.05)


@pytest.mark.parametrize("wrong", ["trainer.profile=lines", "trainer.timeout_s=0"])
def test_what_cannot_be_is_refused(wrong: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *small, *OPTIONS, wrong, f"run={tmp_path / 'run'}"]) == 2
    assert wrong in capsys.readouterr().err
