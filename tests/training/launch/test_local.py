"""What a run on this machine reports when its processes end in different ways."""

from __future__ import annotations

import subprocess

import pytest

from mmattn.training.launch.local import _wait


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (["exit 0", "exit 0"], 0),
        (["exit 0", "exit 2"], 2),
        (["exit 1", "sleep 0.5; exit 143"], 143),  # stopped, which the other saw as a lost connection
        (["exit 1", "kill -9 $$"], 137),
        (["exit 143", "kill -9 $$"], 137),
        (["exit 1", "exec sleep 100"], 1),  # killed by the launcher, not by others
    ],
)
def test_the_exit_code_is_that_of_the_process_that_the_others_failed_for(ends: list[str], code: int) -> None:
    workers = [subprocess.Popen(["sh", "-c", end]) for end in ends]
    assert _wait(workers, []) == code
    assert None not in [worker.poll() for worker in workers]
