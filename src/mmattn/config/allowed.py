"""Checks that each value is one that its key takes, before anything is built. No torch.

Classes check their arguments too, but only after seconds of imports. A key is found in the tables by its last parts,
the longest first. Classes of others (a `_target_` outside mmattn) may use the same names for other things, so their
arguments are not checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from mmattn.config.choices import CHOICES
from mmattn.config.kinds import shown
from mmattn.config.names import is_name
from mmattn.config.overrides import default_of
from mmattn.config.ranges import RANGES, Range
from mmattn.errors import UsageError

OWN = "mmattn."
Value = TypeVar("Value")


def check_allowed(name: str, base: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raises UsageError for a value of `config`, the config `name`, that is out of range or none of the choices.

    `base`: the config with its defaults, which tell whether a key may be null.
    """
    for key, value in _settings(config):
        if value == "" and is_name(key) and default_of(base, key) != "" and key != "query":
            raise UsageError(f"{shown(key)}= is empty: expected a name{_or_null(base, key)}")
        names = choices_of(f"{name}.{key}")
        if names and str(value) not in names:
            raise UsageError(f"{shown(key)}={value}: expected {_one_of(names)}{_or_null(base, key)}")
        within = range_of(f"{name}.{key}")
        if within and isinstance(value, (int, float)) and value not in within:
            finite = ", and finite" if math.isinf(value) else ""
            raise UsageError(f"{shown(key)}={value}: expected {within}{finite}{_or_null(base, key)}")


@cache
def range_of(key: str) -> Range | None:
    """The range of the dotted `key`, which begins with the name of its config; None where it is not known."""
    return _by_last_parts(RANGES, key)


@cache
def choices_of(key: str) -> tuple[str, ...] | None:
    """The names that such a `key` takes; None where it is not known."""
    return _by_last_parts(CHOICES, key)


def _by_last_parts(table: Mapping[str, Value], key: str) -> Value | None:
    parts = key.split(".")
    if "architecture" in parts:  # of another library, which checks it
        return None
    return next((found for i in range(len(parts)) if (found := table.get(".".join(parts[i:])))), None)


def _settings(node: Any, key: str = "") -> Iterator[tuple[str, int | float | str]]:
    """Pairs of dotted key and number or text, of all settings of mmattn's own classes."""
    if isinstance(node, Mapping):
        if str(node.get("_target_", OWN)).startswith(OWN):
            for name, value in node.items():
                yield from _settings(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _settings(value, key)
    elif isinstance(node, (int, float, str)) and not isinstance(node, bool) and not _is_reference(node):
        yield key, node


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _one_of(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _or_null(base: Mapping[str, Any], key: str) -> str:
    return ", or null" if default_of(base, key) is None else ""
