"""Finds classes that configs of earlier runs and checkpoints name by a former module.

A class keeps its name when it moves, and no two classes in configs have the same name, so the name identifies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from mmattn.config.targets import packaged_targets


def with_present_targets(spec: Any) -> Any:
    """`spec` with every `_target_` of an earlier version replaced by its present name."""
    if isinstance(spec, Mapping):
        return {
            key: present_target(value) if key == "_target_" else with_present_targets(value)
            for key, value in spec.items()
        }
    return [with_present_targets(each) for each in spec] if isinstance(spec, list) else spec


def present_target(target: Any) -> Any:
    """The present name of a target; unchanged unless it is the name of a class in a packaged config."""
    if isinstance(target, str) and target.startswith("mmattn."):
        return _by_class().get(_own_name(target), target)
    return target


@cache
def _by_class() -> dict[str, str]:
    return {_own_name(target): target for target in packaged_targets()}


def _own_name(target: str) -> str:
    """`Class`, `Class.method` or `function`, without the modules before it."""
    parts = target.split(".")
    first = next((place for place, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    return ".".join(parts[first:])
