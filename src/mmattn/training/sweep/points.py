"""The points of a sweep: runs in its folder, each named by the values that differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.training.directory.names import CONFIG_FILE, FINISHED_FILE
from mmattn.training.directory.names import SWEEP_FILE as SWEEP_FILE

SEARCH_FILE = "search.json"  # in the folder of a search: its space and settings
FAILED = ".failed"  # folder with the reason of each failed run
MOST_BYTES = 200  # of a run's name: file systems take 255


class Hopeless(UsageError):
    """An error that every run of the sweep would meet, so the sweep ends."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep. `swept`: the overrides that differ; `overrides`: all of them, with run=."""

    run: Path
    swept: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def begun(self) -> bool:
        """Whether its run directory holds a config."""
        return (self.run / CONFIG_FILE).is_file()

    @property
    def finished(self) -> bool:
        """Whether its training has finished."""
        return (self.run / FINISHED_FILE).is_file()

    def is_done(self, evaluate: str | None) -> bool:
        """Whether the run has finished and was evaluated on that split."""
        return self.finished and (evaluate is None or all(file.is_file() for file in self.evaluation(evaluate)))

    def evaluation(self, split: str) -> tuple[Path, Path]:
        """The files of an evaluation: the record, written last, and the scores of each clip."""
        return self.run / f"evaluation-{split}.json", self.run / f"evaluation-{split}-scores.safetensors"

    @property
    def failure(self) -> Path:
        """Where the reason is written when it fails."""
        return self.run.parent / FAILED / f"{self.run.name}.json"


def point_in(folder: Path, swept: Sequence[str], others: Sequence[str], *, digest: bool = False) -> Point:
    """The point whose run directory is named by `swept`. `digest`: as for plain_name."""
    run = folder / plain_name(",".join(swept), digest=digest)
    return Point(run, tuple(swept), (*others, f"run={run}"))


def plain_name(name: str, *, digest: bool = False) -> str:
    """A file name for `name`. One that is too long, or any with `digest`, ends in a digest, which keeps it unique."""
    plain = re.sub(r"[^\w.,=+-]+|^[.]", "_", name) or "_"
    if len(plain.encode()) <= MOST_BYTES and not digest:
        return plain
    ending = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{plain.encode()[: MOST_BYTES - len(ending) - 1].decode(errors='ignore')}-{ending}"


def keep_points(folder: Path, points: Sequence[Point]) -> None:
    """Add points to sweep.json. Raises UsageError where the folder holds another sweep."""
    record = {point.run.name: list(point.overrides) for point in points}
    before = read_points(folder)
    if any(before.get(name, wanted) != wanted for name, wanted in record.items()):
        raise UsageError(f"{folder}: holds a sweep with other settings; choose another sweep=NAME")
    if before != (now := {**before, **record}):
        write_atomically(folder / SWEEP_FILE, json.dumps(now, indent=1).encode())


def read_points(folder: Path) -> dict[str, list[str]]:
    """Run name -> overrides of the sweep in `folder`; empty where there is none."""
    try:
        found = json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def known_points(folder: Path) -> list[Point]:
    """The points of the sweep in `folder`. Raises UsageError where there is none."""
    found = read_points(folder)
    if not found:
        raise UsageError(
            f"{folder}: not the folder of a sweep (no {SWEEP_FILE}); name the one that mmattn train -m printed"
        )
    return [Point(folder / name, (), tuple(overrides)) for name, overrides in found.items()]
