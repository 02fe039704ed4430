"""The values of one key in a search: from Hydra's sweep grammar to Optuna's distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from mmattn.config.compose import Config
from mmattn.config.names import choices
from mmattn.errors import UsageError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Grid:
    """`values`: choices; or a range from `low` to `high`, in steps of `step` if given, on a log scale with `log`."""

    key: str
    text: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False

    @property
    def first(self) -> str:
        """One value of the key, with which the config can be checked before the sweep."""
        return self.values[0] if self.values else f"{self.low:g}"


def parsed_sweep(text: str) -> Grid | None:
    """key=a,b or key=range(...) or key=interval(low,high), the last also as tag(log, interval(...)). None: no sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from hydra.errors import HydraException

    if (names := choices(text)) is not None:
        key = text.partition("=")[0]
        return _of_values(key, text, [name.partition("=")[2] for name in names]) if len(names) > 1 else None
    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
    except HydraException:
        return None  # compose says what is wrong with it
    if not parsed.is_sweep_override():
        return None
    key, sweep = parsed.get_key_element(), parsed.value()
    if isinstance(sweep, IntervalSweep):
        log, low, high = "log" in sweep.tags, float(sweep.start or 0), float(sweep.end or 0)
        if low >= high or (log and low <= 0):
            raise UsageError(f"{text}: expected interval(low,high), with tag(log, ...) above 0")
        return Grid(key, text, low=low, high=high, log=log)
    if isinstance(sweep, RangeSweep) and not sweep.shuffle:
        values = list(sweep.range())
        if not values:
            raise UsageError(f"{text}: the range is empty")
        return Grid(key, text, low=float(min(values)), high=float(max(values)), step=abs(float(sweep.step)))
    return _of_values(key, text, list(parsed.sweep_string_iterator()))


def _of_values(key: str, text: str, values: list[str]) -> Grid:
    if len(set(values)) < len(values):
        raise UsageError(f"{text}: a value is listed twice")
    return Grid(key, text, values=tuple(values))


def distribution(grid: Grid, config: Config) -> BaseDistribution:
    """Optuna's distribution. Keys that are integers in `config` stay integers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if grid.values:
        return CategoricalDistribution(grid.values)
    if is_whole(grid.key, config):
        low, high, step = round(grid.low), round(grid.high), round(grid.step or 1)
        return IntDistribution(low, high, log=grid.log, step=1 if grid.log else step)
    return FloatDistribution(grid.low, grid.high, log=grid.log, step=grid.step)


def is_whole(key: str, config: Config) -> bool:
    """Whether the value of the dotted `key` is an integer."""

    def inner(node: Any, name: str) -> Any:
        return node.get(name) if isinstance(node, dict) else None

    return type(reduce(inner, key.split("."), config)) is int
