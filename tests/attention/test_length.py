"""Peak memory of training grows with the length of the streams as `mmattn show attention` says, up to 65536 tokens."""

from __future__ import annotations

import pytest
import torch
from growth import DIM, HEADS, peak, value

from mmattn.attention.exact.backends import explicit
from mmattn.attention.interface import Attention, AttentionOutput
from mmattn.attention.patterns import routing
from mmattn.attention.scores import additive
from mmattn.config.compose import build, group_choices, read_choice

SLACK = 1.25
STEP_BY_STEP = {"gru", "gru_additive"}  # a step for each key: few keys
MORE_THAN_LINEAR = {"strided", "bigbird", "topk_blocks"}  # by a small factor, which their cost says


def _make(name: str) -> Attention:
    torch.manual_seed(0)
    return build(read_choice("attention", name))(HEADS, DIM)


def _lengths(name: str, attention: Attention, queries: int) -> tuple[int, int]:
    """Queries and keys, fewer of the one where the time would be that of all pairs."""
    if name in STEP_BY_STEP:
        return queries, queries // 16
    every_pair = "Lq Lk D" in attention.time_cost.split("+")[0] or name == "token_merging"
    return (queries // 8, queries) if every_pair else (queries, queries)


@pytest.mark.parametrize("tokens", [16384, pytest.param(65536, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", group_choices("attention"))
def test_memory_grows_no_faster_than_the_table_says(name: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a quarter of the tokens on, where a matrix of all pairs would grow sixteenfold."""
    if tokens < 65536:  # what is held at once is smaller than the scores here, too
        for module, limit in ((additive, "CHUNK_SCORES"), (explicit, "CHUNK_ELEMENTS"), (routing, "SCORES_AT_ONCE")):
            monkeypatch.setattr(module, limit, 1 << 17)
    attention = _make(name)
    short, long = (_lengths(name, attention, n) for n in (tokens // 4, tokens))
    measured = peak(attention, *long) / peak(attention, *short)
    assert measured <= SLACK * _growth(attention, short, long)


def _growth(attention: Attention, short: tuple[int, int], long: tuple[int, int]) -> float:
    """What the cost says of lengths in this proportion, where its largest term is all that counts."""
    far, near = ((n << 20 for n in lengths) for lengths in (long, short))
    return value(attention.memory_cost, *far) / value(attention.memory_cost, *near)


def test_only_those_that_say_so_need_more_than_linear_memory() -> None:
    for name in group_choices("attention"):
        cost = _make(name).memory_cost
        growth = value(cost, 1 << 21, 1 << 21) / value(cost, 1 << 20, 1 << 20)
        assert (growth > 2.1) == (name in MORE_THAN_LINEAR), f"{name}: {cost}"


def test_a_matrix_of_all_pairs_is_seen() -> None:
    class Matrix(torch.nn.Module):
        def forward(self, q, k, v, q_geometry, k_geometry):
            return AttentionOutput(torch.softmax(q @ k.mT, dim=-1) @ v)

    matrix: Attention = Matrix()  # type: ignore[assignment]
    assert peak(matrix, 2048, 2048) / peak(matrix, 512, 512) > 14
