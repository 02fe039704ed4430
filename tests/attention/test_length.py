"""Peak memory of training grows with the length of the streams, not with its square."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

LENGTHS = (2048, 4096, 8192, 16384)
LINEAR = [
    *("dense", "time_window", "sliding", "dilated", "global_local", "bigbird", "topk_blocks", "lsh", "routing"),
    *("linear", "performer", "linformer", "nystrom"),
]
MEASURE = """
import re, sys, torch
from pathlib import Path
from mmattn.attention.interface import Geometry
from mmattn.config import build, compose

def mebibytes(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def peak(length):
    q, k, v = (torch.randn(1, 4, length, 32, requires_grad=True) for _ in range(3))
    keep, time = torch.ones(1, length, dtype=torch.bool), (torch.arange(length) / 50)[None]
    side = Geometry(keep, time, (("video", length // 2), ("audio", length - length // 2)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = mebibytes("VmRSS")
    attention(q, k, v, side, side).out.sum().backward()
    return mebibytes("VmHWM") - before

torch.set_num_threads(1)
attention = build(compose("train", ["attention=" + sys.argv[1]])["attention"])(4, 32)
peak(512)
print(*(peak(int(length)) for length in sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", LINEAR)
def test_peak_memory_grows_linearly(name: str) -> None:
    """Forward and backward; the exponent of length, fitted over 2048 ... 16384 tokens, is at most 1.2."""
    command = [sys.executable, "-c", MEASURE, name, *map(str, LENGTHS)]
    peaks = [float(x) for x in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]
    x, y = [math.log(n) for n in LENGTHS], [math.log(max(peak, 1.0)) for peak in peaks]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    assert slope <= 1.2, peaks
    assert peaks[-1] < 600, "MiB; a matrix of 4 heads would take 4096"
