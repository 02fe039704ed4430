"""Scores of steps, averaged in parts or at once."""

from __future__ import annotations

import pytest
import torch

from mmattn.inference.annotators.open_tags.smoother import Smoother


@pytest.mark.parametrize("reach", [0, 1, 3])
@pytest.mark.parametrize("parts", [[7], [1] * 7, [3, 4], [2, 1, 4]])
def test_smoothing_in_parts_is_smoothing_at_once(reach: int, parts: list[int]) -> None:
    rows = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    smoother = Smoother(reach)
    given = [smoother.add(part) for part in rows.split(parts)]
    rest = smoother.finish()
    assert rest is not None
    wanted = torch.stack([rows[max(0, i - reach) : i + reach + 1].mean(dim=0) for i in range(7)])
    torch.testing.assert_close(torch.cat([*given, rest]), wanted)
    assert Smoother(reach).finish() is None
