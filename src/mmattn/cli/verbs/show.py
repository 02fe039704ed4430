"""mmattn show: what can be chosen."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.config.compose import group_choices
from mmattn.config.overrides import GROUPS, nearest
from mmattn.errors import UsageError


def show(groups: Sequence[str]) -> str:
    """The choices of `groups`, or of all groups. Raises UsageError for a group that does not exist."""
    if unknown := [name for name in groups if name not in GROUPS]:
        raise UsageError(f"no group is named {unknown[0]!r}{nearest(unknown[0], GROUPS)}")
    if sorted(groups) == ["attention", "fusion"]:
        from mmattn.fusion.catalogue import pairs

        return pairs.table()
    return "\n".join(_choices(group, with_facts=bool(groups)) for group in groups or GROUPS)


def _choices(group: str, with_facts: bool) -> str:
    if with_facts and group == "attention":
        from mmattn.attention.catalogue import table

        return table()
    if with_facts and group == "fusion":
        from mmattn.fusion.catalogue import strategies

        return strategies.table()
    return f"{group}: {', '.join(group_choices(group))}"
