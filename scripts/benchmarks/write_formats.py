"""A million records written in each format: processor time, and the most memory that the process ever had.

python scripts/benchmarks/write_formats.py [RECORDS]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mmattn.config.compose import build, read_choice

FORMATS = ("jsonl", "csv", "coco", "parquet")
WORDS = [
    {"word": word, "video": 0.31, "audio": -0.12, "synergy": 0.0, "attention": 0.4} for word in ("a", "dog", "barks")
]
TAGS = [{"tag": f"tag{i}", "score": 0.9 - i / 10, "video": 0.4, "audio": 0.1, "synergy": 0.0} for i in range(3)]


def records(count: int) -> Iterator[dict]:
    for i in range(count):
        yield {
            "id": f"videos/{i:07d}.mp4",
            "path": f"/data/videos/{i:07d}.mp4",
            "status": "ok",
            "tags": TAGS,
            "captions": [{"start": 0.0, "end": 3.0, "text": "a dog barks", "score": -0.5, "words": WORDS}],
            "modality": {"used": ["video", "audio"], "shapley": {"video": 0.4, "audio": 0.1}, "attention": None},
            "spans": [[0.0, 3.0]],
            "issues": [],
        }


def write(name: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part, began = Path(folder) / "part", time.process_time()
        build(read_choice("format", name)).write(records(count), part)
        spent, size = time.process_time() - began, part.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {name} | {count} | {spent:.1f} | {peak:.0f} | {size / 1e6:.0f} |", flush=True)


def main() -> None:
    if len(sys.argv) == 3:
        write(sys.argv[1], int(sys.argv[2]))
        return
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print("| format | records | processor s | peak MB | file MB |\n|---|---|---|---|---|", flush=True)
    for name in FORMATS:
        for count in (most // 100, most):
            subprocess.run([sys.executable, __file__, name, str(count)], check=True)


if __name__ == "__main__":
    main()
