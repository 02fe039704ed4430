"""Which yaml of a config group a part of a frozen config came from: the name that was chosen, such as time_window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmattn.config.compose import group_choices, read_choice
from mmattn.config.folders import config_folders
from mmattn.config.moved import with_present_targets


def choice_of(group: str, node: Any) -> str | None:
    """The choice with the classes of `node` and the fewest settings that differ; None without a `_target_`.

    A class that no yaml names goes by its own name.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        return None
    found = _flat(with_present_targets(node))
    best, most = "", (-1_000_000, 0)
    for name, own in _known(group, tuple(config_folders())):
        if any(found.get(key) != value for key, value in own.items() if key.endswith("_target_")):
            continue
        shared = sum(found.get(key) == value for key, value in own.items())
        fit = (shared - len(own), shared)  # fewest settings that differ, then most that agree
        if fit > most:
            best, most = name, fit
    return best or str(node["_target_"]).rpartition(".")[2].removesuffix(group.capitalize()).lower() or None


@cache
def _known(group: str, _folders: tuple[Path, ...]) -> list[tuple[str, dict[str, str]]]:
    """The choices of a group with their settings, for the folders that configs come from."""
    named = [(name, read_choice(group, name)) for name in group_choices(group)]
    return [(name, {key: value for key, value in _flat(node).items() if "${" not in value}) for name, node in named]


def _flat(node: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in leaves(node)}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted key and value of everything in a config that is not a mapping."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
