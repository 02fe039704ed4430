"""Precision, torch.compile and the size of batches."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from mmattn.errors import UsageError
from mmattn.inference.predictor.batch_size import best_batch_size, measure_batch_sizes
from mmattn.inference.predictor.speed import Speed


def busy(seconds: float) -> None:
    """Uses the processor for so long."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_batches_grow_until_that_does_not_help():
    """2 ms for a batch, and 1 ms for each eight of it: as many as possible; with 2 ms for each of it, one."""
    shared = measure_batch_sizes(lambda size: busy(0.002 + 0.001 * size / 8), "cpu")
    assert best_batch_size(shared) >= 64
    single = measure_batch_sizes(lambda size: busy(0.002 * size), "cpu")
    assert best_batch_size(single) <= 2 and len(single) <= 5


def test_memory_ends_it():
    def run(size: int) -> None:
        if size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        busy(0.002)

    assert list(measure_batch_sizes(run, "cpu")) == ["1", "2", "4"]
    with pytest.raises(UsageError, match="no memory for one span"):
        measure_batch_sizes(lambda size: run(5), "cpu")


def test_the_smallest_size_that_is_as_good_is_taken():
    assert best_batch_size({"1": 10.0, "2": 19.0, "4": 19.5, "8": 19.9}) == 2


def test_precision_is_one_of_three():
    layer, given = nn.Linear(8, 8), torch.randn(2, 8)
    for name, kind in (("32", torch.float32), ("bf16", torch.bfloat16), ("16", torch.float16)):
        with Speed(name).running("cpu"), torch.inference_mode():
            assert layer(given).dtype == kind
    with pytest.raises(UsageError, match="precision=8: expected 32, bf16, 16"):
        Speed("8")


def test_what_cannot_be_compiled_is_said_at_once():
    def run() -> None:
        raise RuntimeError("no compiler found\nand more")

    with pytest.raises(UsageError, match="compile=true: no compiler found; set compile=false"):
        Speed(compile=True).prepare([nn.Linear(1, 1)], run)
    Speed(compile=False).prepare([nn.Linear(1, 1)], run)
