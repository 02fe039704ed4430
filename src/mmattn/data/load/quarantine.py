"""The clips of a run that could not be read: listed once with their reasons, not tried again, limited in number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmattn.data.load.cache import EXCLUDED, FAILED, UNTRIED
from mmattn.errors import MediaError, MmattnError

ENOUGH = 20  # clips tried before a share of them means anything


class Quarantine:
    """Bad clips by id. `keep_in` names the file (JSON lines: id, path, reason, detail) that all processes of a run
    share and that a resumed run goes on with. `max_fraction`: of the clips of a split, more than so many stop the run.
    """

    def __init__(self, max_fraction: float) -> None:
        self.max_fraction = max_fraction
        self.reasons: dict[str, dict[str, str]] = {}
        self._file: Path | None = None

    def keep_in(self, file: Path) -> None:
        """List in `file` what is known so far, and take over what it lists."""
        self._file = file
        listed = self._listed()
        for name, record in self.reasons.items():
            if name not in listed:
                self._append(name, record)
        self.reasons |= listed

    def refresh(self) -> None:
        """Take over what other processes have listed since."""
        self.reasons |= self._listed()

    def add(self, name: str, error: MediaError) -> None:
        self.refresh()
        if name not in self.reasons:
            self.reasons[name] = {"path": error.path, "reason": error.reason, "detail": error.detail}
            self._append(name, self.reasons[name])

    def _listed(self) -> dict[str, dict[str, str]]:
        listed = {}
        for line in self._lines():
            try:
                record = json.loads(line)
                listed[record.pop("id")] = record
            except (json.JSONDecodeError, KeyError, AttributeError):
                continue  # cut off: its process was killed
        return listed

    def _lines(self) -> list[str]:
        if self._file is None or not self._file.is_file():
            return []
        return self._file.read_text(encoding="utf-8").splitlines()

    def _append(self, name: str, record: dict[str, str]) -> None:
        if self._file is None:
            return
        cut_off = self._file.is_file() and self._file.read_bytes()[-1:] not in (b"", b"\n")
        with self._file.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut_off else "") + json.dumps({"id": name, **record}) + "\n")

    def check(self, state: np.ndarray) -> None:
        """Raises MmattnError when too many of the clips with these states (see ClipCache) are unreadable."""
        failed, excluded = int((state == FAILED).sum()), int((state == EXCLUDED).sum())
        tried = int((state != UNTRIED).sum()) - excluded
        for bad, clips in ((failed, tried), (failed + excluded, len(state))):
            if clips >= ENOUGH and bad > self.max_fraction * clips:
                where = f"; see {self._file}" if self._file else ""
                raise MmattnError(
                    f"{bad} of {clips} clips could not be read, more than data.max_bad_fraction={self.max_fraction} "
                    f"allows (all that was found: {self.summary()}){where}"
                )

    def left_out(self) -> str:
        where = f"; all are listed in {self._file}" if self._file else ""
        return f"{len(self.reasons)} clips left out as unreadable ({self.summary()}){where}"

    def summary(self) -> str:
        """Counts by reason, and the first one in full."""
        reasons = Counter(record["reason"] for record in self.reasons.values())
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        first = next(iter(self.reasons.values()), None)
        return counts if first is None else f"{counts}, such as {first['path']}: {first['detail'] or first['reason']}"


def exclude(state: np.ndarray, names: Sequence[str], known: Quarantine) -> None:
    """Mark the untried clips that are known to be bad."""
    if known.reasons:
        for index, name in enumerate(names):
            if name in known.reasons and state[index] != FAILED:
                state[index] = EXCLUDED
