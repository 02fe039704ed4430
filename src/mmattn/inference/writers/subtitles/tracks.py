"""A subtitle track for each video, and one of descriptions where it has a transcript too; beside it or in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.writers.interface import Kind, Record, TrackFormat
from mmattn.inference.writers.ledger import open_ledger
from mmattn.inference.writers.subtitles.cues import cues_of
from mmattn.text import clean


@dataclass(frozen=True)
class Tracks:
    """`folder` None: beside each video. `overwrite`: also files that this job did not write."""

    style: TrackFormat
    folder: Path | None
    overwrite: bool

    def write(self, records: Iterable[Record], database: Path, kind: Kind = "subtitles") -> Counter[str]:
        """How many were "written", "kept" as others had written them, or had "nothing" to show. Raises MmattnError."""
        counts: Counter[str] = Counter()
        suffix, other = self._suffix(kind), self._suffix("descriptions" if kind == "subtitles" else "subtitles")
        with open_ledger(database, self.folder, suffix, self.overwrite, other) as ledger:
            for record in records:
                if record["status"] == "ok":
                    cues = cues_of(record, kind)
                    data = self.style.track(cues, kind).encode("utf-8")
                    counts[ledger.write(record, data) if cues else "nothing"] += 1
            ledger.remove_stale()
        return counts

    def _suffix(self, kind: Kind) -> str:
        return self.style.suffix if kind == "subtitles" else f".{kind}{self.style.suffix}"


def demand_beside(media: Path) -> None:
    """Raises UsageError for a file beside which no track can lie."""
    if media.suffix.lower() == ".tar":
        raise UsageError(f"{clean(str(media))}: nothing lies beside what is in it; name a folder: tracks=DIR")
