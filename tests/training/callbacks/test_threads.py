"""How many threads a process gets. That it keeps them is seen by tests/program/test_train_launch.py: equal sums."""

from __future__ import annotations

import pytest

from mmattn.training.callbacks.threads import threads_of


@pytest.mark.parametrize(("threads", "devices", "expected"), [(0, 3, 2), (5, 3, 5), (0, 16, 1)])
def test_cores_are_shared_out_where_no_number_is_set(
    threads: int, devices: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert threads_of({"trainer": {"threads": threads, "devices": devices}}) == expected


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("16", 8), (None, 2)])
def test_a_task_of_slurms_takes_the_cores_that_are_its_own(
    given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if given:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", given)
    config = {"trainer": {"threads": 0, "devices": 4}, "launcher": {"_target_": "mmattn.training.launch.slurm.Slurm"}}
    assert threads_of(config) == expected
    assert threads_of({"trainer": {"threads": 0, "devices": 4}}) == 2, "a shell in a job is none of its tasks"
