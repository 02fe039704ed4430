"""`budget=params|flops`: solves `dim` for each row of a sweep, so that all models match the size or cost of the first.

The `dim` of the first point sets the target. Every other row gets the `dim` whose model comes closest to it in the
parameters of the whole model, or in the operations of one clip's forward pass (matrix products, convolutions and
attention; a multiply-add counts as two).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmattn.config.compose import Composer, Config, build
from mmattn.errors import UsageError
from mmattn.model import AVModel, build_model, tokenizer_of, vocabulary_of, with_frames
from mmattn.progress import log
from mmattn.training.run.dry_run import first
from mmattn.training.sweep.forecast import size_key
from mmattn.training.sweep.points import Point
from mmattn.training.sweep.work import Work

BUDGETS = {"params": "parameters", "flops": "operations"}
NOTED = 0.05  # rows further off are reported


def with_budget(points: Sequence[Point], composer: Composer, budget: str, evaluate: str | None) -> list[Point]:
    """The points with dim= and budget= in their overrides. Raises UsageError where a row cannot be built."""
    if budget not in BUDGETS:
        raise UsageError(f"budget={budget}: expected {', '.join(BUDGETS)}")
    if any(text.startswith("dim=") for text in points[0].swept):
        raise UsageError(f"budget={budget} solves dim for each row; leave dim out of the sweep")
    dims: dict[str, int] = {}
    target = 0
    with Work(evaluate) as work:
        for point in points:
            config = composer.compose(point.overrides)
            if (key := size_key(config)) in dims:
                continue
            sized = _Sized(point, composer, budget, work)
            target = target or sized(config["dim"])
            dims[key] = _closest(sized, target, config["dim"], config["heads"])
            found = sized(dims[key])
            far = abs(found / target - 1) > NOTED
            log(
                f"{' '.join(point.swept)}: dim={dims[key]}, {found:,} {BUDGETS[budget]}"
                + (f", {found / target - 1:+.0%} of the first row's, the closest possible" if far else "")
            )
    solved = [dims[size_key(composer.compose(point.overrides))] for point in points]
    return [
        replace(point, overrides=(*point.overrides, f"budget={budget}", f"dim={dim}"))
        for point, dim in zip(points, solved, strict=True)
    ]


class _Sized:
    """The size of a point's model for a `dim`."""

    def __init__(self, point: Point, composer: Composer, budget: str, work: Work) -> None:
        self.point, self.composer, self.budget, self.work = point, composer, budget, work
        self._known: dict[int, int] = {}

    def __call__(self, dim: int) -> int:
        if dim not in self._known:
            self._known[dim] = self._size(self.composer.compose([*self.point.overrides, f"dim={dim}"]))
        return self._known[dim]

    def _size(self, config: Config) -> int:
        from mmattn.data.features.source import with_frozen_encoders

        config = with_frozen_encoders(config)
        visual = build(config["visual"])
        config = with_frames(config, visual)
        data = self.work.data(config)
        vocabulary = vocabulary_of(config, data)
        model = build_model(config, vocabulary, tokenizer_of(config, data), {"visual": visual})
        if self.budget == "params":
            return sum(weight.numel() for weight in model.parameters())
        batch = next(iter(data.loader(data.dataset("val", vocabulary=vocabulary), train=False)))
        return count_flops(model, first(batch, 1))


def count_flops(model: AVModel, batch: Any) -> int:
    """Operations of a forward pass, with unfused attention, because the counter does not know the fused CPU kernel."""
    model = model.eval().requires_grad_(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.fuse(*model.encode(batch))
    return counter.get_total_flops()


def _closest(size: Callable[[int], int], target: int, dim: int, heads: int) -> int:
    """The dim, with an even number of channels per head, whose `size` is closest to `target`. `size` is increasing."""
    if size(dim) == target:
        return dim
    step = 2 * heads  # position embeddings rotate pairs of channels
    low, high = 1, max(1, dim // step)
    while size(high * step) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle * step) < target else (low, middle)
    return min((low * step, high * step), key=lambda each: abs(size(each) - target))
