"""A grid: every combination of the values of some keys, in Hydra's order, the last key fastest."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from mmattn.config.compose import Composer, group_choices, read_choice
from mmattn.config.names import choices
from mmattn.errors import UsageError
from mmattn.training.sweep.overrides import check_unnamed, folder_of, of_runs, with_grid
from mmattn.training.sweep.points import Point, point_in

MOST = 10_000


class GridPoints:
    """The points of a grid. The outcome of one does not affect the others."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        self.count = len(points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def finished(self, point: Point) -> None:
        """A grid learns nothing from its runs."""

    def failed(self, point: Point) -> None:
        """A grid learns nothing from its runs."""


def plan(overrides: Sequence[str]) -> tuple[Path, list[Point]]:
    """The folder and the points. A fusion without attention appears once, not with each attention."""
    check_unnamed(overrides)
    overrides = with_grid(overrides)
    values_of = [_choices(text) for text in of_runs(overrides)]
    swept = [k for k, values in enumerate(values_of) if len(values) > 1]
    if not swept:
        raise UsageError("train -m: nothing to sweep over; give a key several values, such as fusion=late,cross")
    if (count := math.prod(map(len, values_of))) > MOST:
        raise UsageError(
            f"train -m: {count:,} points, and at most {MOST:,} at once; split it into commands with the same sweep=NAME"
        )
    if any(len(set(values)) < len(values) for values in values_of):
        raise UsageError("train -m: a value is listed twice")
    planned: dict[tuple[str, ...], list[str]] = {}  # what differs -> all overrides
    for values in itertools.product(*values_of):
        left_out = _unused_attention(values)
        own = tuple(values[k] for k in swept if values[k] != left_out)
        planned.setdefault(own, [value for value in values if value != left_out])
    folder = folder_of(overrides)
    points = [point_in(folder, own, others) for own, others in planned.items()]
    named = Counter(point.run for point in points)  # a/b and a_b have one name
    return folder, [point_in(folder, p.swept, p.overrides[:-1], digest=named[p.run] > 1) for p in points]


def check_points(points: Sequence[Point], composer: Composer) -> None:
    """Raises UsageError for a typo: composes every value once, not every combination."""
    seen: set[str] = set()
    for point in points:
        if new := set(point.swept) - seen:
            composer.compose(point.overrides)
            seen |= new


def _unused_attention(values: Sequence[str]) -> str | None:
    """The attention override of a fusion without attention."""
    fusion = next((text.partition("=")[2] for text in reversed(values) if text.startswith("fusion=")), "")
    if fusion not in group_choices("fusion") or _attends(fusion):
        return None
    return next((text for text in values if text.startswith("attention=")), None)


@cache
def _attends(fusion: str) -> bool:
    return "attention" in read_choice("fusion", fusion)


def _choices(text: str) -> list[str]:
    """The overrides of a Hydra sweep (a,b or range(1,4)); of another override, itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if (names := choices(text)) is not None:
        return names
    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
    except HydraException:
        return [text]  # compose says what is wrong with it
    if not parsed.is_sweep_override():
        return [text]
    if not (parsed.is_choice_sweep() or parsed.is_range_sweep() or parsed.is_interval_sweep()):
        raise UsageError(f"{text}: sweep over values (a,b,c) or range(...)")
    if parsed.is_interval_sweep():
        raise UsageError(
            f"{text}: an interval has no values to try one by one; range(from,to,step) has, or search=optuna"
        )
    key = parsed.get_key_element()
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]
