"""In steady state a step waits for the device once at most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from host_reads import HostReads
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch.utils.data import DataLoader

from mmattn import types
from mmattn.attention.exact.backends import ragged, sdpa
from mmattn.cli.main import main

pytestmark = pytest.mark.usefixtures("warm")

KINDS = {
    "plain": [],
    "each logged": ["trainer.log_every=1"],
    "accumulated": ["trainer.accumulate=2", "data.batch_size=4", "trainer.log_every=1"],
    "balanced": ["modality_balance=ogm_ge", "trainer.log_every=1"],
    "averaged": ["weight_average=ema", "multitask=uncertainty", "captions=transformer", "captions.decoding.beams=1"],
    "sparse": ["regulariser=entropy", "trainer.recompute=true"],
    "contrastive": ["pretrain=contrastive"],
    "masked": ["pretrain=cav_mae", "trainer.precision=bf16-mixed"],
    "synchrony": ["pretrain=sync"],
}


@contextmanager
def paused() -> Iterator[None]:
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_read_once(kind: str, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, load, counted = _TrainingEpochLoop.advance, DataLoader.__iter__, []
    modes: list[HostReads] = []

    def advance(self: Any, fetcher: Any) -> None:
        own = [state["step"] for state in self.trainer.optimizers[0].state.values()]
        with HostReads([step for step in own if isinstance(step, torch.Tensor)]) as reads:
            modes.append(reads)
            plain(self, fetcher)
        modes.clear()
        if own:  # the first step makes what the optimizer keeps
            counted.append(reads.found)

    def batches(self: DataLoader) -> Any:
        """The loader's work is no part of the step."""
        loaded: Any = None
        while True:
            with paused() if modes else nullcontext():
                loaded = loaded or load(self)
                batch = next(loaded, None)
            if batch is None:
                return
            yield batch

    monkeypatch.setattr(_TrainingEpochLoop, "advance", advance)
    monkeypatch.setattr(DataLoader, "__iter__", batches)
    monkeypatch.setattr(types, "known_full", lambda keep: False)  # as where masks lie on a device
    monkeypatch.setattr(ragged, "possible", lambda *tokens: False)
    for dtype, masked in product((torch.float32, torch.bfloat16), (False, True)):
        sdpa.trusted("cpu", dtype, masked, False)  # tried once in a process, and no step
    options = [*small, "logger=none", "trainer.validate_every=2", *KINDS[kind], f"run={tmp_path / 'run'}"]
    assert main(["train", *options]) == 0
    assert len(counted) >= 3
    for found in counted:
        assert found.total() <= 1, found
    assert sum(found.total() for found in counted) >= 2, "what is read is seen"
