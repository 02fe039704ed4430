"""Writes a subtitle track for each video, and a track of descriptions if it also has a transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.records.build import Record
from mmattn.inference.writers.interface import Kind, TrackFormat
from mmattn.inference.writers.ledger import open_ledger
from mmattn.inference.writers.subtitles.cues import cues_of
from mmattn.text import clean


@dataclass(frozen=True)
class Tracks:
    """Tracks of one format. `folder` None: beside each video.

    `overwrite`: also replace files that this job did not write.
    """

    style: TrackFormat
    folder: Path | None
    overwrite: bool

    def write(self, records: Iterable[Record], database: Path, kind: Kind = "subtitles") -> Counter[str]:
        """How many tracks were "written", "kept" (written by others), or had "nothing" to show. Raises MmattnError."""
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


def check_beside(media: Path) -> None:
    """Raise UsageError for a member of a tar, which can have no track beside it."""
    if media.suffix.lower() == ".tar":
        raise UsageError(f"{clean(str(media))}: a member of a tar has no place beside it; name a folder: tracks=DIR")
