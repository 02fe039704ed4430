"""How many threads a process gets. That it keeps them is seen by tests/program/test_train_launch.py: equal sums."""

from __future__ import annotations

import pytest

from mmattn.training.loop.threads import threads_of


@pytest.mark.parametrize(("threads", "devices", "expected"), [(0, 3, 2), (5, 3, 5), (0, 16, 1)])
def test_cores_are_shared_out_where_no_number_is_set(
    threads: int, devices: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert threads_of({"trainer": {"threads": threads, "devices": devices}}) == expected
