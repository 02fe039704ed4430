"""Loader processes: too little shared memory, their death, their silence; and a second signal against any wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from mmattn.data.load import loader as loading
from mmattn.data.load.loader import EpochLoader
from mmattn.data.load.sampler import Draw, GlobalBatchSampler
from mmattn.data.load.transfer import SHARED_MEMORY, is_short, nbytes
from mmattn.errors import MmattnError
from mmattn.types import Tokens

pytestmark = pytest.mark.usefixtures("warm")

CLIPS, NUMBERS = 12, 1000


class Numbers(Dataset[torch.Tensor]):
    """What the clip says of itself; `fault` happens in the loader process at the last one."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def example(self) -> torch.Tensor:
        return torch.zeros(NUMBERS)

    def __getitem__(self, item: Draw) -> torch.Tensor:
        if item.row == CLIPS - 1 and self.fault == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if item.row == CLIPS - 1 and self.fault == "silence":
            time.sleep(3600)
        return torch.full((NUMBERS,), float(item.row))


def loader_of(fault: str = "", workers: int = 2) -> EpochLoader:
    sampler = GlobalBatchSampler(CLIPS, 4, seed=0, train=False)
    return EpochLoader(Numbers(fault), batch_sampler=sampler, workers=workers, collate_fn=torch.stack)


def test_the_bytes_of_a_batch_are_those_of_all_its_tensors() -> None:
    tokens = Tokens(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3))
    assert nbytes(({"a": tokens, "b": [torch.zeros(5)], "c": None}, "x")) == 96 + 6 + 24 + 20


def test_memory_is_short_when_all_waiting_batches_do_not_fit(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    there = os.statvfs(tmp_path)
    free = there.f_bavail * there.f_frsize
    assert not is_short(6, free // 100, place=tmp_path)
    assert not capsys.readouterr().err
    assert is_short(6, free // 10, place=tmp_path)
    assert "--shm-size" in capsys.readouterr().err
    assert is_short(6, free // 100, processes=8, place=tmp_path), "which share it"
    assert not is_short(6, free, place=tmp_path / "none")


def test_batches_through_pipes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = [batch.tolist() for batch in loader_of()]
    monkeypatch.setattr(loading, "is_short", lambda *_: True)
    piped = loader_of()
    assert [batch.tolist() for batch in piped] == direct == [batch.tolist() for batch in loader_of(workers=0)]
    assert isinstance(piped.collate_fn([torch.zeros(1)]), bytes)


@pytest.mark.parametrize("fault", ["death", "silence"])
def test_a_loader_process_that_dies_or_is_silent_is_one_line(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "WAIT_S", 5.0)
    with pytest.raises(MmattnError, match=r"DataLoader (worker|timed out).*data.workers=0") as error:
        list(loader_of(fault))
    assert "\n" not in str(error.value)


def test_training_with_the_shared_memory_of_a_container_ends(tmp_path: Path) -> None:
    """On a /dev/shm of 1 MB; without the pipes it waits for ever."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {SHARED_MEMORY}"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True)
    if tried.returncode:
        pytest.skip("may not mount another /dev/shm here")
    settings = [
        *("data=avshapes", f"data.root={tmp_path}/shapes", "data.clips=24", "data.source.workers=1", "dim=16"),
        *("data.isolated=false", "data.batch_size=8", "data.workers=2", "trainer.epochs=1", "trainer.accelerator=cpu"),
        *("heads=2", "logger=none", "trainer.threads=1", f"run={tmp_path}/r"),
    ]
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-m", "mmattn", "train"]
    done = subprocess.run([*command, *settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{SHARED_MEMORY}: " in done.stderr and "through pipes" in done.stderr
    assert (tmp_path / "r" / "model.safetensors").is_file()


# Waits in Python, or in a library that no signal interrupts: a lock of the C library's that is taken twice.
WAITING = """
import ctypes, queue, sys
from pathlib import Path
from types import SimpleNamespace
from mmattn.errors import Stopped
from mmattn.process import signals
from mmattn.training.callbacks.stop_on_signal import StopOnSignal
from mmattn.training.distributed.consensus import StepConsensus
from mmattn.training.loop.timetable import Timetable

signals.END_S = 0.5
stop = StopOnSignal(Path("r"), StepConsensus(), Timetable())
stop.on_train_start(SimpleNamespace(global_step=0, is_global_zero=True), None)
print("waits", flush=True)
try:
    if sys.argv[1] == "python":
        queue.Queue().get()
    mutex, lib = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    while True:
        lib.pthread_mutex_lock(mutex)
except Stopped as stopped:
    print(stopped, flush=True)
    sys.exit(stopped.exit_code)
"""


@pytest.mark.parametrize("wait", ["python", "library"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_any_wait(wait: str, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAITING, wait], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "waits\n"
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(number)  # the same Ctrl-C, passed on
    time.sleep(1.5)
    assert process.poll() is None, "the first one waits for the step"
    process.send_signal(number)
    said = process.communicate()[0]
    assert process.returncode == 128 + number
    assert ("resume=r" in said) == (wait == "python")
