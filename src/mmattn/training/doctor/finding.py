"""One line of what `mmattn doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class MachineFinding:
    """One line of the report. `fix`: what to do about a problem, as a command where there is one."""

    level: Level
    what: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8}{self.what:12}{self.found}" + (f"\n        fix: {self.fix}" if self.fix else "")
