"""The interfaces of output formats: records to a file or folder, or cues to the text of a track."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from mmattn.inference.records.build import Record

Kind = Literal["subtitles", "descriptions"]  # of a track


class _RecordFormat:
    suffix: ClassVar[str] = ""

    def check(self) -> None:
        """Called before any work. Raises UsageError if a library that the format needs is missing."""


class FileFormat(_RecordFormat, ABC):
    """All records in one file. Memory does not grow with their number."""

    @abstractmethod
    def write(self, records: Iterable[Record], part: Path) -> None:
        """Write the new file `part`. Raises UsageError for records that the format cannot hold."""


class FolderFormat(_RecordFormat, ABC):
    """All records in a few files of a folder, `names`. Memory does not grow with their number."""

    names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def write(self, records: Iterable[Record], folder: Path) -> None:
        """Write the files into `folder`, which is empty."""


@dataclass(frozen=True)
class Cue:
    """`text` is shown from `start` to `end`, ms of the file; start < end. It has no empty line."""

    start: int
    end: int
    text: str


class TrackFormat(ABC):
    """A subtitle track for each video."""

    suffix: ClassVar[str]

    @abstractmethod
    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        """The text of a track file. `cues` are in the order of their starts."""
