"""Settings that some runs lack because they were trained before the setting existed: filled in with its default.

A new setting does what was done before unless it is given, so a run without it is the same as one with its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from mmattn.config.compose import Config, compose, group_choices, read_choice
from mmattn.config.folders import packaged_groups
from mmattn.config.moved import present_target
from mmattn.reports.collect.choices import choice_of, leaves
from mmattn.reports.collect.records import RunRecord


def with_added(runs: Sequence[tuple[RunRecord, Config]]) -> list[RunRecord]:
    """The runs, given with their configs as written; each has the settings of the others that it would have today."""
    keys = {key for run, _ in runs for key in run.config}
    return [run if keys <= run.config.keys() else _filled(run, config, keys) for run, config in runs]


def _filled(run: RunRecord, config: Config, keys: set[str]) -> RunRecord:
    today = flat(_today(config))
    return replace(run, config={key: today[key] for key in keys & today.keys()} | run.config)


def flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted keys and their values as text."""
    return {key: "null" if value is None else str(value) for key, value in leaves(config)}


def _today(config: Config) -> Config:
    """The config with every setting that it would have if it were composed now."""
    whole = _defaults() | config
    return {key: _completed(value, whole) for key, value in whole.items()}


def _completed(node: Any, whole: Config) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {key: _completed(value, whole) for key, value in {**_of_choice(node, whole), **node}.items()}


def _of_choice(node: Mapping[str, Any], whole: Config) -> Config:
    """The settings in the yaml file that a part of a config came from.

    Values that depend on others are left out, unless they are another part: `${position}`.
    """
    group = _groups().get(present_target(node.get("_target_")))
    name = choice_of(group, node) if group else None
    if group is None or name not in group_choices(group):
        return {}
    own = {key: _referred(value, whole) for key, value in read_choice(group, name).items()}
    return {key: value for key, value in own.items() if "${" not in str(value)}


def _referred(value: Any, whole: Config) -> Any:
    return whole.get(value[2:-1], value) if isinstance(value, str) and value.startswith("${") else value


@cache
def _defaults() -> Config:
    return compose("train", ["data.root=."])


@cache
def _groups() -> dict[str, str]:
    """The group of each class that a packaged config names."""
    named = ((group, read_choice(group, name)) for group in packaged_groups() for name in group_choices(group))
    return {str(node["_target_"]): group for group, node in named if "_target_" in node}
