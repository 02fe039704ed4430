"""Which clips make which batch: every row once an epoch, one order for any number of processes, exact resumption."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import Dataset

from mmattn.data.load.balance import clip_weights
from mmattn.data.load.loader import EpochLoader
from mmattn.data.load.sampler import Draw, GlobalBatchSampler
from mmattn.errors import UsageError

WEIGHTS = clip_weights([["common"]] * 24 + [["rare"]] * 8 + [[]] * 3, "class")
KINDS: dict[str, dict] = {
    "plain": {},
    "balanced": {"weights": WEIGHTS},
    "short": {"length": 20},
    "long": {"length": 80},
    "balanced and long": {"weights": WEIGHTS, "length": 80},
}


def _items(
    rows: int, batch: int, epoch: int = 0, world: int = 1, train: bool = True, seed: int = 1, **kind
) -> list[list[Draw]]:
    """The global batches of an epoch, put together from all ranks; each rank's slice is of equal size in training."""
    samplers = [
        GlobalBatchSampler(rows, batch, seed=seed, train=train, rank=rank, world=world, **kind) for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    parts = [list(sampler) for sampler in samplers]
    assert {item.epoch for part in parts for items in part for item in items} == {epoch}
    if train:
        assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
        assert len({len(items) for part in parts for items in part}) == 1
    batches = []
    for number in range(max(map(len, parts))):
        ranks = [part[number] if number < len(part) else [] for part in parts]
        whole = [Draw(-1, -1)] * sum(map(len, ranks))
        for rank, items in enumerate(ranks):
            whole[rank::world] = items
        batches.append(whole)
    return batches


def _epoch(rows: int, batch: int, epoch: int = 0, **settings) -> list[list[int]]:
    return [[item.row for item in batch] for batch in _items(rows, batch, epoch, **settings)]


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
    alone = _items(rows, 8, train=train)
    assert _clips(_items(rows, 8, world=2, train=train)) == alone
    assert _clips(_items(rows, 8, world=4, train=train)) == alone


@pytest.mark.parametrize("rows", [1, 3, 33, 35])
def test_every_process_does_as_many_validation_batches_and_what_is_added_is_no_clip(rows: int) -> None:
    ranks = [list(GlobalBatchSampler(rows, 8, seed=1, train=False, rank=r, world=4)) for r in range(4)]
    assert {len(batches) for batches in ranks} == {-(-rows // 8)}
    assert all(batch for batches in ranks for batch in batches)
    assert sorted(item.row for batches in ranks for item in chain(*batches) if item.row >= 0) == list(range(rows))


def _clips(batches: list[list[Draw]]) -> list[list[Draw]]:
    return [[item for item in batch if item.row >= 0] for batch in batches]


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_epoch_is_the_same_for_any_number_of_processes(kind: str, epoch: int) -> None:
    alone = _items(35, 8, epoch, **KINDS[kind])
    assert _items(35, 8, epoch, world=2, **KINDS[kind]) == alone
    assert _items(35, 8, epoch, world=4, **KINDS[kind]) == alone
    assert len(alone) == KINDS[kind].get("length", 35) // 8
    assert _items(35, 8, epoch + 1, **KINDS[kind]) != alone
    assert _items(35, 8, epoch, seed=2, **KINDS[kind]) != alone


@pytest.mark.parametrize("stopped", [1, 3])
@pytest.mark.parametrize("worlds", [(1, 1), (2, 2), (2, 1), (1, 4)])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "short"])
def test_every_kind_of_epoch_goes_on_in_the_middle_with_any_number_of_processes(
    kind: str, worlds: tuple[int, int], stopped: int
) -> None:
    first, second = (
        [GlobalBatchSampler(35, 8, seed=1, train=True, rank=r, world=world, **KINDS[kind]) for r in range(world)]
        for world in worlds
    )
    for sampler in (*first, *second):
        sampler.set_epoch(2)
    for sampler in second:
        sampler.seen = (2, stopped)
    seen = [sorted(chain(*items)) for items in zip(*first, strict=True)][:stopped]
    seen += [sorted(chain(*items)) for items in zip(*second, strict=True)]
    assert seen == [sorted(items) for items in _items(35, 8, 2, **KINDS[kind])]


@pytest.mark.parametrize("length", [7, 20, 35, 80])
def test_epochs_of_any_length_show_each_clip_before_any_comes_again(length: int) -> None:
    """As far as batches are full: here all are."""
    shown = list(chain(*(chain(*_epoch(35, 1, epoch, length=length)) for epoch in range(15))))
    assert len(shown) == 15 * length
    for start in range(0, len(shown) - 34, 35):
        assert sorted(shown[start : start + 35]) == list(range(35))


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_that_comes_again_in_an_epoch_says_so(kind: str) -> None:
    """So that it is not augmented alike."""
    items = list(chain(*_items(35, 8, **KINDS[kind])))
    assert len(set(items)) == len(items)
    for index in range(35):
        repeats = [item.repeat for item in items if item.row == index]
        assert repeats == list(range(len(repeats)))


def test_balanced_batches_show_each_class_as_often() -> None:
    """100 epochs: each of three classes a third of the time, within four standard deviations."""
    shown = list(chain(*(chain(*_epoch(35, 7, epoch, weights=WEIGHTS)) for epoch in range(100))))
    assert len(shown) == 3500, "an epoch is as long as ever"
    counts = [sum(index < 24 for index in shown), sum(24 <= index < 32 for index in shown)]
    spread = 4 * (3500 * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(count - 3500 / 3) < spread for count in counts)
    for index in range(35):
        chance = 1 / 3 / (24 if index < 24 else 8 if index < 32 else 3)
        assert abs(shown.count(index) - 3500 * chance) < 4.5 * (3500 * chance) ** 0.5


@pytest.mark.parametrize(
    ("balance", "expected"),
    [("class", [1 / 3 + 1 / 2, 1 / 3, 1 / 3, 1 / 2]), ("sqrt", [3**-0.5 + 2**-0.5, 3**-0.5, 3**-0.5, 2**-0.5])],
)
def test_weights_are_the_sum_over_tags_of_their_rarity(balance: str, expected: list[float]) -> None:
    weights = clip_weights([["dog", "rain", "dog"], ["dog"], ["dog"], ["rain"]], balance)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64) / sum(expected))


def test_without_balance_there_are_no_weights() -> None:
    assert clip_weights([["dog"], []], "none") is None


def test_validation_goes_in_order_whatever_training_does() -> None:
    assert list(chain(*_epoch(35, 8, train=False, weights=WEIGHTS, length=8))) == list(range(35))


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


def _loader(epoch: int) -> EpochLoader:
    sampler = GlobalBatchSampler(20, 4, seed=3, train=True)
    sampler.set_epoch(epoch)
    return EpochLoader(_Indices(), batch_sampler=sampler)


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
