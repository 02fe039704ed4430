"""Means over clips. Each process keeps its sums on its device until they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmattn.types import widest

Gather = Callable[[Tensor], Tensor]  # (...) of this process -> (R, ...) of all R of them


def wide(value: Tensor) -> Tensor:
    """The number without its gradient, in the widest type of its device."""
    return widest(value.detach())


def single_process(value: Tensor) -> Tensor:
    """A Gather for one process."""
    return value[None]


class Meter:
    """Values are means over a batch, weighted by its clips. All processes add the same names."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # name -> (2,): sum over clips, clips

    def add(self, values: Mapping[str, Tensor], clips: Tensor) -> None:
        """`clips`: their number, a scalar. A value over no clips is ignored."""
        count = wide(clips)
        for name, value in values.items():
            total = torch.where(count > 0, wide(value) * count, torch.zeros_like(count))
            pair = torch.stack([total, count])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def sums(self) -> Tensor:
        """(N, 2) of this process since the last `reset`: sum over clips, and clips, sorted by name."""
        return torch.stack([self._sums[name] for name in sorted(self._sums)]) if self._sums else torch.zeros(0, 2)

    def means(self, sums: Tensor) -> dict[str, float]:
        """Over the clips of all processes, whose `sums` (R, N, 2) these are."""
        found = zip(sorted(self._sums), sums.sum(dim=0).tolist(), strict=True)
        return {name: total / clips for name, (total, clips) in found if clips}

    def read(self, gather: Gather) -> dict[str, float]:
        """The means over the clips of all processes, in one all-gather and one device synchronisation."""
        return self.means(gather(self.sums()).cpu()) if self._sums else {}

    def reset(self) -> None:
        """Start over, with no clips counted."""
        self._sums = {}

    def state_dict(self, gather: Gather) -> dict[str, Any]:
        """Per process: adding the sums in another order would round differently."""
        return {"names": sorted(self._sums), "sums": gather(self.sums()).cpu() if self._sums else torch.zeros(1, 0, 2)}

    def load_state_dict(self, state: dict[str, Any], rank: int, world: int, device: torch.device) -> None:
        """With another number of processes the first takes the sums of all."""
        sums: Tensor = state["sums"].to(device)
        if len(sums) != world:
            sums = torch.cat([sums.sum(dim=0, keepdim=True), torch.zeros(world - 1, *sums.shape[1:]).to(sums)])
        self._sums = dict(zip(state["names"], sums[rank], strict=True))
