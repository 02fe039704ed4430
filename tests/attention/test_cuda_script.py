"""The script that proves and times attention on a GPU runs whole, at reduced size on the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "attention_cuda.py"


@pytest.mark.slow
def test_the_session_on_a_gpu_runs_here(tmp_path: Path) -> None:
    out = tmp_path / "tables.md"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--only", "time_window", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| ")]
    found = {(row[0].strip("| "), row[1]): row for row in rows}
    for step in ("autocast, bfloat16", "compiled fusion, one graph", "DistributedDataParallel", "evaluation"):
        off, allowed = (float(cell) for cell in found[step, "time_window"][2:4])
        assert off <= allowed
    assert float(found["time_window", "forward"][2]) > 0, "the cost of mass"
    assert float(found["256", "forward + backward"][2]) > 0, "windows beside dense"


def test_without_a_gpu_it_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ran = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "no CUDA device is here; --device cpu shows that the script runs\n")
