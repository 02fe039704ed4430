"""Whether attention leans to the modality that the scores depend on: the tests of both, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmattn.reports.collect.records import RunRecord
from mmattn.reports.statistics.bundle import Statistics
from mmattn.reports.statistics.verdicts import Finding, direction, lean
from mmattn.reports.text import NOTHING, signed


@dataclass(frozen=True)
class Agreement:
    """`looks`, `depends`: picture, sound, or "" where the interval contains 0. `known`: both have intervals."""

    looks: str
    depends: str
    known: bool

    @property
    def state(self) -> Literal["yes", "no", "none"]:
        """Whether the modality that is looked at is the one that counts; none where either is undecided."""
        if not self.looks or not self.depends:
            return "none"
        return "yes" if self.looks == self.depends else "no"

    @property
    def words(self) -> str:
        """As a table shows it."""
        if not self.known:
            return "not tested"
        if self.state == "none":
            return "open"
        return f"yes: {self.looks}" if self.state == "yes" else f"\u26a0 looks at {self.looks}, needs {self.depends}"


def agreement(found: Statistics, place: int) -> Agreement | None:
    """The agreement of the row at `place`; None without attention to compare."""
    looks, depends = found.weighting("attention", place), found.weighting("shapley/balance", place)
    if looks is None or depends is None:
        return None
    return Agreement(direction(looks.low, looks.high), direction(depends.low, depends.high), True)


def cell(run: RunRecord, own: Agreement | None) -> tuple[str, str]:
    """The CSS class and the text of the table's cell."""
    if not run.scores.heads:
        return "none", NOTHING
    return (own.state, own.words) if own is not None else ("none", "not tested")


def sentence(run: RunRecord, own: Agreement | None) -> Finding | None:
    """Attention compared with what the scores depend on; None without attention or a Shapley split."""
    split = run.scores.shapley
    if not run.scores.heads or split.video is None or split.audio is None:
        return None
    shown = (
        f"(attention's log-ratio {signed(lean(run.scores.heads))}; Shapley split: picture {signed(split.video)}, "
        f"sound {signed(split.audio)})"
    )
    if own is None:
        return Finding(f"Not tested for {run.name}: its scores and attention of each clip were not kept {shown}.")
    if own.state == "no":
        text = f"They point to different senses for {run.name}: attention leans to the {own.looks}, its scores depend "
        return Finding(f"{text}more on the {own.depends} {shown}.", "caution")
    if own.state == "yes":
        return Finding(f"They agree for {run.name}: both point to the {own.looks} {shown}.")
    open_ = [name for name, way in (("attention", own.looks), ("Shapley split", own.depends)) if not way]
    return Finding(f"Open for {run.name}: the interval of its {' and of its '.join(open_)} contains 0 {shown}.")
