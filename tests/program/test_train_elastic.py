"""torchrun's agents on nodes that come and go: two agents on one machine, of which one is enough."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmattn.training.launch.port import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
WAIT_S = 400.0  # torchrun waits 30 s for more nodes each time that it has enough

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start("train", ...)`: an agent."""
    begun: list[subprocess.Popen[str]] = []

    def start(*overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mmattn", "train", *overrides]
        with (tmp_path / f"agent{len(begun)}.txt").open("w") as told:
            begun.append(subprocess.Popen(command, stdout=told, stderr=told, text=True))
        return begun[-1]

    yield start
    for agent in begun:
        if agent.poll() is None:
            kill_with_workers(agent)


def kill_with_workers(agent: subprocess.Popen[str]) -> None:
    """As when a node is lost."""
    workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(agent.pid)], capture_output=True, text=True).stdout
    for pid in (agent.pid, *map(int, workers.split())):
        os.kill(pid, signal.SIGKILL)
    agent.wait()


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    return [line["step"] for line in lines if "train/step/loss" in line]


def processes(run: Path) -> list[int]:
    """How many trained, each time that they were started."""
    try:
        starts = json.loads((run / "run.json").read_text()).get("machines", [])
    except FileNotFoundError:
        return []
    return [sum(host["processes"] for host in each["hosts"]) for each in starts]


def wait(until: Callable[[], bool], *agents: subprocess.Popen[str]) -> None:
    end = time.monotonic() + WAIT_S
    while not until():
        assert [agent.poll() for agent in agents] == [None] * len(agents)
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_node_joins_and_another_is_lost_while_training_continues(
    small: list[str], tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "run"
    nodes = ["launcher=torchrun", "launcher.nodes=2", "launcher.min_nodes=1", "launcher.join_s=400"]
    endless = ["trainer.epochs=20000", "trainer.validate_every=1000", "trainer.log_every=1", "trainer.save_every=10"]
    options = [*nodes, f"launcher.endpoint=127.0.0.1:{free_port()}", *endless, "logger=none", "data.batch_size=4"]
    first = start(*small, *options, f"run={run}")
    wait(lambda: len(steps(run)) > 5, first)
    assert processes(run) == [1]
    second = start(f"resume={run}")
    wait(lambda: processes(run) == [1, 2], first, second)
    before = len(steps(run))
    wait(lambda: len(steps(run)) > before + 20, first, second)
    kill_with_workers(second)
    wait(lambda: processes(run) == [1, 2, 1], first)
    before = len(steps(run))
    wait(lambda: len(steps(run)) > before + 20, first)
    first.send_signal(signal.SIGTERM)
    assert first.wait(WAIT_S) == 143
    found = steps(run)
    assert found == list(range(1, len(found) + 1)), "each step once"
