"""One holder at a time, whatever is killed, stopped or late, in real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmattn.errors import UsageError
from mmattn.process.lease import Lease

BEAT, STALE = 0.2, 2.0
# Takes the lease at `path`, or says that it did not; then follows the commands on standard input.
HOLDER = """
import sys
from mmattn.process.lease import Lease
lease = Lease(sys.argv[1], beat_s=float(sys.argv[3]), stale_s=float(sys.argv[2]))
print(lease.take(), flush=True)
for line in sys.stdin:
    if line == "take\\n": print(lease.take(), flush=True)
    if line == "lost\\n": print(lease.lost(), flush=True)
    if line == "release\\n": print(lease.release(), flush=True)
    if line == "leave\\n": break
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that takes the lease at once."""
    begun: list[subprocess.Popen[str]] = []

    def start(stale_s: float = STALE, beat_s: float = BEAT, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "lease"), str(stale_s), str(beat_s)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, env={**os.environ, **env}, **pipes))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str], *order: str) -> str:
    if order:
        print(*order, file=process.stdin, flush=True)
    assert process.stdout
    return process.stdout.readline().strip()


def lease_at(tmp_path: Path, stale_s: float = STALE) -> Lease:
    return Lease(tmp_path / "lease", beat_s=BEAT, stale_s=stale_s)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to come; the test's own time limit ends what does not."""
    while not condition():
        time.sleep(BEAT / 2)


def test_the_second_is_refused_and_is_told_by_whom_and_a_release_frees_it_at_once(tmp_path: Path, start: Start) -> None:
    holder = start(stale_s=3600)
    assert told(holder) == "True"
    lease = lease_at(tmp_path)
    assert not lease.take()
    assert lease.lost()
    assert f"process {holder.pid} on {os.uname().nodename} since 20" in lease.holder()
    with pytest.raises(UsageError, match=f"held by process {holder.pid} on "), lease:
        pass
    assert told(holder, "lost") == "False"
    told(holder, "release")
    assert lease.holder() == "nobody"
    with lease:
        assert not lease.lost()
        assert told(holder, "take") == "False"
    assert lease.lost()
    assert told(holder, "take") == "True"


def test_a_holder_that_beats_keeps_it_for_longer_than_the_stale_time(tmp_path: Path, start: Start) -> None:
    holder, lease = start(), lease_at(tmp_path)
    assert told(holder) == "True"
    for _ in range(4):
        time.sleep(STALE / 2)
        assert not lease.take()
    assert told(holder, "lost") == "False"


def test_a_death_on_the_same_host_frees_it_at_once(tmp_path: Path, start: Start) -> None:
    holder = start(stale_s=3600)
    assert told(holder) == "True"
    holder.send_signal(signal.SIGKILL)
    until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    lease = lease_at(tmp_path)
    assert lease.take(), "a process that was killed and not yet waited for is dead"
    lease.release()


@pytest.mark.parametrize("change", ["number taken by another process", "another host"])
def test_who_is_dead_is_known_by_more_than_a_number(tmp_path: Path, change: str) -> None:
    lease = lease_at(tmp_path, stale_s=3600)
    assert lease.take()
    lease.release()
    file = tmp_path / "lease" / "1"
    owner = json.loads(file.read_text().partition("\n")[2])
    if change == "another host":
        owner.update(place="another boot", pid=2**22 + 1)  # a number that no process here can have
    else:
        owner.update(started="0")
    file.write_text(f"held\n{json.dumps(owner)}")
    assert lease.take() == (change != "another host")
    lease.release()


def test_one_who_stood_still_has_lost_it_and_disturbs_nobody(tmp_path: Path, start: Start) -> None:
    holder, lease = start(), lease_at(tmp_path)
    assert told(holder) == "True"
    holder.send_signal(signal.SIGSTOP)
    until(lease.take)
    holder.send_signal(signal.SIGCONT)
    assert told(holder, "lost") == "True"
    told(holder, "release")
    assert not lease.lost()
    assert str(os.getpid()) in lease.holder()
    assert told(holder, "take") == "False"
    lease.release()
    assert told(holder, "take") == "True"


def test_one_who_wakes_while_it_is_watched_keeps_it(tmp_path: Path, start: Start) -> None:
    """As after a suspend of the machine, or a jump of the server's clock: old by its time, yet alive."""
    holder, lease = start(60.0, beat_s=2.0), lease_at(tmp_path, 60.0)  # time for its next beat on a busy machine
    assert told(holder) == "True"
    for jump in (-1e6, 1e6):
        for file in (tmp_path / "lease").iterdir():
            os.utime(file, (time.time() + jump,) * 2)
        assert not lease.take()
    assert told(holder, "lost") == "False"


@pytest.mark.parametrize("round_", range(3))
def test_of_twenty_who_take_over_a_lapsed_one_exactly_one_wins(tmp_path: Path, start: Start, round_: int) -> None:
    holder = start()
    assert told(holder) == "True"
    holder.send_signal(signal.SIGSTOP if round_ else signal.SIGKILL)
    time.sleep(STALE)
    racers = [start() for _ in range(20)]
    assert sorted(told(racer) for racer in racers) == ["False"] * 19 + ["True"]
    assert sum(told(racer, "lost") == "False" for racer in racers) == 1
    assert len(list((tmp_path / "lease").iterdir())) == 1


def test_at_no_moment_are_there_two_holders(tmp_path: Path) -> None:
    """Four processes take, hold and release at random for a while; each notes in a shared file what it does."""
    worker = f"""
import os, random, sys, time
from mmattn.process.lease import Lease
lease, log, rng = Lease(sys.argv[1], beat_s={BEAT}, stale_s=3600), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND), random.Random(int(sys.argv[3]))
taken = 0
while taken < 40:
    if lease.take():
        taken += 1
        os.write(log, b"+")
        time.sleep(rng.random() / 500)
        os.write(log, b"-")
        lease.release()
"""  # noqa: E501
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-c", worker, str(tmp_path / "lease"), str(log)]
    workers = [subprocess.Popen([*command, str(seed)]) for seed in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert log.read_text() == "+-" * 160


def test_a_late_one_who_acts_on_an_old_state_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw a lapsed holder, slept, and meanwhile others took it, tidied, released, and one holds it now."""
    late, other, holder = (lease_at(tmp_path, stale_s=3600) for _ in range(3))
    assert other.take()
    other.release()
    lapsed = late._lapsed

    def sleeps(last: object) -> bool:
        answer = lapsed(last)  # type: ignore[arg-type]
        assert other.take()
        other.release()
        assert holder.take()
        return answer

    monkeypatch.setattr(late, "_lapsed", sleeps)
    assert not late.take()
    assert not holder.lost()
    assert [file.name for file in (tmp_path / "lease").iterdir()] == ["3"]
    holder.release()


def test_a_job_that_slurm_starts_anew_takes_over_from_itself_only(tmp_path: Path, start: Start) -> None:
    slurm = {"SLURM_JOB_ID": "17", "SLURM_CLUSTER_NAME": "c"}
    holder = start(stale_s=3600, **slurm)
    assert told(holder) == "True"
    assert "Slurm job 17 c" in lease_at(tmp_path).holder()
    assert told(start(**slurm)) == "False", "another task of the same job"
    assert told(start(**{**slurm, "SLURM_JOB_ID": "18", "SLURM_RESTART_COUNT": "1"})) == "False"
    assert told(start(**slurm, SLURM_RESTART_COUNT="1")) == "True"
    until(lambda: told(holder, "lost") == "True")


def test_a_fork_of_the_holder_neither_holds_nor_releases(tmp_path: Path) -> None:
    lease = lease_at(tmp_path)
    with lease:
        if (child := os.fork()) == 0:
            code = 0 if lease.lost() else 1
            lease.release(done=True)
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert not lease.lost()
        assert not lease_at(tmp_path).take()


def test_what_is_written_half_counts_as_held_until_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "lease"
    folder.mkdir()
    (folder / "7").write_bytes(b"he")
    lease = lease_at(tmp_path)
    assert not lease.take()
    assert "has just begun" in lease.holder()
    os.utime(folder / "7", (0, 0))
    assert lease.take()
    lease.release(done=True)
    assert not folder.exists()


def test_a_lease_whose_folder_is_gone_is_lost(tmp_path: Path) -> None:
    lease = lease_at(tmp_path)
    assert lease.take()
    (tmp_path / "lease").rename(tmp_path / "away")
    until(lease.lost)
    lease.release()


def test_a_lease_that_could_lapse_between_two_beats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two beats"):
        Lease(tmp_path, beat_s=random.uniform(1, 2), stale_s=1.5)
