"""Which clips make which batch: every row once an epoch, one order for any number of processes, exact resumption."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import Dataset

from mmattn.data.module import ClipLoader
from mmattn.data.sampler import GlobalBatchSampler
from mmattn.errors import UsageError


def _epoch(rows: int, batch: int, epoch: int = 0, world: int = 1, train: bool = True, seed: int = 1) -> list[list[int]]:
    """The global batches of an epoch, put together from all ranks; each rank's slice is of equal size in training."""
    samplers = [GlobalBatchSampler(rows, batch, seed=seed, train=train, rank=r, world=world) for r in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    parts = [list(sampler) for sampler in samplers]
    assert {e for part in parts for items in part for e, _ in items} == {epoch}
    if train:
        assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
        assert len({len(items) for part in parts for items in part}) == 1
    batches = []
    for number in range(max(map(len, parts))):
        ranks = [[index for _, index in part[number]] if number < len(part) else [] for part in parts]
        whole = [0] * sum(map(len, ranks))
        for rank, indices in enumerate(ranks):
            whole[rank::world] = indices
        batches.append(whole)
    return batches


def test_every_row_once_an_epoch() -> None:
    assert sorted(chain(*_epoch(24, 6))) == list(range(24))
    assert sorted(chain(*_epoch(23, 6, train=False))) == list(range(23))
    left_out = set(range(26)) - set(chain(*_epoch(26, 6)))
    assert len(left_out) == 2, "the last, smaller batch is left out"
    assert left_out != set(range(26)) - set(chain(*_epoch(26, 6, epoch=1))), "but not the same rows each time"


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert _epoch(24, 6) == _epoch(24, 6)
    assert _epoch(24, 6) != _epoch(24, 6, epoch=1)
    assert _epoch(24, 6) != _epoch(24, 6, seed=2)
    assert list(chain(*_epoch(24, 6))) == list(chain(*_epoch(24, 8)))
    assert list(chain(*_epoch(23, 6, train=False))) == list(range(23)), "validation goes in order"


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("rows", [32, 35])
def test_any_number_of_processes_makes_the_same_batches(rows: int, train: bool) -> None:
    alone = _epoch(rows, 8, train=train)
    assert _epoch(rows, 8, world=2, train=train) == alone
    assert _epoch(rows, 8, world=4, train=train) == alone


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("rows", [4, 5, 7])
def test_a_set_smaller_than_a_batch_still_makes_one(rows: int, world: int) -> None:
    (batch,) = _epoch(rows, 32, world=world)
    assert rows - world < len(batch) <= rows
    assert len(set(batch)) == len(batch)


def test_fewer_rows_than_processes_are_refused_rather_than_waited_for() -> None:
    """A process without a batch would leave the others waiting for its gradients."""
    with pytest.raises(UsageError, match="3 clips"):
        GlobalBatchSampler(3, 32, seed=0, train=True, rank=3, world=4)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.batch_size=9 does not divide among 2 processes"):
        GlobalBatchSampler(20, 9, seed=0, train=True, world=2)


class _Indices(Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(item)


def _loader(epoch: int) -> ClipLoader:
    sampler = GlobalBatchSampler(20, 4, seed=3, train=True)
    sampler.set_epoch(epoch)
    return ClipLoader(_Indices(), batch_sampler=sampler)


@pytest.mark.parametrize("stopped", [1, 3, 5])
def test_a_loader_goes_on_with_what_was_not_seen(stopped: int) -> None:
    whole = [batch.tolist() for batch in _loader(2)]
    first, seen = _loader(2), []
    for batch in first:
        seen.append(batch.tolist())
        if len(seen) == stopped:
            break
    state = first.state_dict()
    assert state == {"epoch": 2, "batches": stopped}
    second = _loader(2)
    second.load_state_dict(state)
    assert second.state_dict() == state, "a state may be saved again before anything is read"
    assert seen + [batch.tolist() for batch in second] == whole


def test_the_next_epoch_starts_at_its_beginning() -> None:
    loader = _loader(2)
    loader.load_state_dict({"epoch": 2, "batches": 3})
    assert len(list(loader)) == 2
    loader.batch_sampler.set_epoch(3)
    assert [batch.tolist() for batch in loader] == [batch.tolist() for batch in _loader(3)]


def test_a_resumed_epoch_can_be_stopped_and_resumed_again() -> None:
    whole = [batch.tolist() for batch in _loader(0)]
    second = _loader(0)
    second.load_state_dict({"epoch": 0, "batches": 2})
    assert next(iter(second)).tolist() == whole[2]
    third = _loader(0)
    third.load_state_dict(second.state_dict())
    assert [batch.tolist() for batch in third] == whole[3:]
