"""docs/example_report.html: a small comparison. `python scripts/docs/example_report.py [OUT]` trains it in minutes.

Three fusions x three seeds on generated clips, with too little training for results: it shows what the page looks like.
compare.json of the same runs goes to examples/, where compare.ipynb reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

from mmattn.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "example_report.html"
MOST_BYTES = 1_000_000
NOT_READ = ("curves", "decisions", "precision_recall", "confusions", "heads", "tags", "pairs", "samples")  # large
SWEEP = ["fusion=late,concat,cross", "seed=0,1,2", "sweep=example", "sweep.evaluate=test"]
SMALL = ["data=avshapes", "data.root=avshapes", "data.clips=240", "data.batch_size=16", "data.isolated=false",
         "dim=48", "heads=2", "fusion.layers=1", "visual.widths=[16,16,32]", "visual.blocks=1", "audio.blocks=1",
         "trainer.epochs=8", "trainer.validate_every=2", "trainer.threads=1", "logger=none"]  # fmt: skip
COMPARE = ["compare", "sweep=runs/sweeps/example", "samples=3", "out=example_report.html"]


def make(out: Path) -> None:
    """Train, compare, and keep the page and its numbers without names of this machine."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for arguments in (["train", "-m", *SMALL, *SWEEP], COMPARE):
            _run(arguments)
        for file in (*Path("runs").rglob("run.json"), *Path("runs").rglob("cost.json")):
            file.write_text(anonymous(file.read_text(encoding="utf-8"), folder), encoding="utf-8")
        _run([*COMPARE, "measure=none"])
        page = Path("example_report.html")
        keep(page.read_text(encoding="utf-8"), page.with_suffix(".json").read_text(encoding="utf-8"), folder, out)


def keep(page: str, numbers: str, folder: str, out: Path) -> None:
    """Write the page to `out`, and the tables that the notebook reads to examples/."""
    text = page.replace(folder, ".")
    if len(text.encode()) >= MOST_BYTES:
        raise SystemExit(f"{out}: {len(text.encode())} bytes, more than {MOST_BYTES}")
    out.write_text(text, encoding="utf-8")
    record = {name: value for name, value in json.loads(numbers.replace(folder, ".")).items() if name not in NOT_READ}
    (ROOT / "examples" / "compare.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def anonymous(text: str, folder: str) -> str:
    """Without the names of the machine and of the folders on it."""
    text = text.replace(folder, ".").replace(str(ROOT), ".")
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "example", text)


def _run(arguments: list[str]) -> None:
    if code := main(arguments):
        raise SystemExit(code)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    make(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else OUT)
