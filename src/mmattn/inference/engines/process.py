"""A process that answers shards of a predict job: python -m mmattn.inference.engines.process JOB DECODERS DEVICE."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.shard import Answering
from mmattn.inference.jobs.worker import serve


def main() -> int:
    job = Job(Path(sys.argv[1]))

    @contextmanager
    def load() -> Iterator[Answering]:
        from mmattn.inference.engines.answering import answering

        with answering(job, int(sys.argv[2]), sys.argv[3]) as ready:
            yield ready

    return serve(job, load)


if __name__ == "__main__":
    sys.exit(main())
