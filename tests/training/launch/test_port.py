"""The port on which processes meet is one that no outgoing connection is given by chance."""

from __future__ import annotations

import socket

import pytest

from mmattn.training.launch import port
from mmattn.training.launch.port import PORTS, free_port


def test_two_runs_of_one_machine_choose_two_ports() -> None:
    assert len({free_port() for _ in range(20)}) > 15


def test_a_port_on_which_somebody_listens_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = free_port()
    free = next(other for other in PORTS if other != taken and _can_listen(other))
    monkeypatch.setattr(port, "PORTS", [taken, free])
    monkeypatch.setattr(port.random.SystemRandom, "sample", lambda self, ports, count: list(ports))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        assert free_port() == free


def _can_listen(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) != 0
