"""The worker process of a predict job: python -m mmattn.inference.engines.process JOB DECODERS DEVICE."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import EntryProcessor
from mmattn.inference.jobs.worker import serve


def main() -> int:
    """Process the shards that the driver sends; returns the exit code."""
    job = Job(Path(sys.argv[1]))

    @contextmanager
    def load() -> Iterator[EntryProcessor]:
        from mmattn.inference.engines.processor import open_processor

        with open_processor(job, int(sys.argv[2]), sys.argv[3]) as processor:
            yield processor

    return serve(job, load)


if __name__ == "__main__":
    sys.exit(main())
