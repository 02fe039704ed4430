"""What it costs to find that a big job is done: `python scripts/benchmarks/job_check.py [FILES]` (default 1,000,000)

A manifest of so many rows and the answers to all of them are made up, 500 a shard; then the source is listed, compared
with the job, its answers checked, and nothing is left to do. The media need not exist. Time on the clock and peak
memory of the process that checks.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.listing import list_source

SHARD = 500


def make(folder: Path, count: int) -> None:
    with (folder / "all.jsonl").open("w") as manifest:
        for i in range(count):
            manifest.write(json.dumps({"id": f"clip{i:07d}", "path": f"part{i % 1000:03d}/clip{i:07d}.mp4"}) + "\n")
    job = Job(folder / "job")
    job.update(list_source(str(folder / "all.jsonl")).entries, SHARD)
    (job.root / "done").mkdir()
    tags = [{"tag": f"tag{k}", "score": 0.5, "video": 0.1, "audio": 0.2, "synergy": 0.0} for k in range(3)]
    for shard in job.shards():
        records = [{"id": e.id, "path": e.path, "status": "ok", "tags": tags} for e in job.entries(shard)]
        (job.root / "done" / f"{shard:06d}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def check(folder: Path) -> None:
    started = time.monotonic()
    job = Job(folder / "job")
    listing = list_source(str(folder / "all.jsonl"))
    listed = time.monotonic()
    added, still_open = job.update(listing.entries, SHARD).todo, job.open_shards()
    compared = time.monotonic()
    answered = sum(1 for _ in job.records())
    assert (added, still_open, answered) == (0, [], len(listing.entries))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{answered:,} rows: listed in {listed - started:.1f} s, compared in {compared - listed:.1f} s, ", end="")
    print(f"every answer checked in {time.monotonic() - compared:.1f} s; peak {peak:.2f} GB")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        check(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as name:
            count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
            make(Path(name), count)
            subprocess.run([sys.executable, __file__, "check", name], check=True)
