"""A subtitle track for each video, beside it or in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.writers.interface import Record, TrackFormat
from mmattn.inference.writers.ledger import Ledger, open_ledger
from mmattn.inference.writers.subtitles import cues_of
from mmattn.text import clean


@dataclass(frozen=True)
class Tracks:
    """`folder` None: beside each video. `overwrite`: also files that this job did not write."""

    style: TrackFormat
    folder: Path | None
    overwrite: bool

    def write(self, records: Iterable[Record], database: Path) -> Counter[str]:
        """How many were "written", "kept" as others had written them, or had "nothing" to show. Raises MmattnError."""
        counts: Counter[str] = Counter()
        with open_ledger(database, self.folder, self.style.suffix, self.overwrite) as ledger:
            for record in records:
                if record["status"] == "ok":
                    counts[self._write(record, ledger)] += 1
            ledger.remove_stale()
        return counts

    def _write(self, record: Record, ledger: Ledger) -> str:
        cues = cues_of(record)
        if not cues:
            return "nothing"
        return ledger.write(record, self.style.track(cues).encode("utf-8"))


def demand_beside(media: Path) -> None:
    """Raises UsageError for a file beside which no track can lie."""
    if media.suffix.lower() == ".tar":
        raise UsageError(f"{clean(str(media))}: nothing lies beside what is in it; name a folder: tracks=DIR")
