"""All that a comparison's page shows, before it is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.predictions import Failure, Prediction
from mmattn.reports.collect.records import RunRecord
from mmattn.reports.page.browsed import Browser
from mmattn.reports.page.rows import Facts, Row, group_rows
from mmattn.reports.statistics.bundle import Statistics
from mmattn.reports.statistics.fairness import fairness
from mmattn.reports.statistics.tag_results import TagResults, tag_results
from mmattn.reports.statistics.verdicts import Finding


@dataclass(frozen=True)
class Example:
    """One prediction with its pictures (data: URIs)."""

    prediction: Prediction
    pictures: list[str]


@dataclass(frozen=True)
class Page:
    """The groups of runs in the order of the page, their tests, costs, clips and predictions."""

    groups: list[Group]
    found: Statistics
    facts: Facts
    title: str = ""
    factors: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    browser: Browser = field(default_factory=Browser)
    predictions: str | None = None  # the file they came from
    files_read: int = 0
    examples: list[Example] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    out: str = "compare.html"
    refresh_s: float | None = None

    @property
    def means(self) -> list[RunRecord]:
        """What each row shows: its run, or the mean over its seeds."""
        return [group.mean for group in self.groups]

    @property
    def runs(self) -> list[RunRecord]:
        """All single runs."""
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the main table."""
        return group_rows(self.groups, self.found, self.facts)

    @cached_property
    def tag_results(self) -> list[TagResults | None]:
        """Precision, recall and confusions of each row."""
        return tag_results(self.groups)

    @cached_property
    def fairness(self) -> list[Finding]:
        """Whether the comparison is fair."""
        return fairness(self.groups, self.factors, dict(self.facts.costs), dict(self.facts.seconds))
