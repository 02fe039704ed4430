"""What a format is: records in, a file out, or cues in, the text of a track out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

Record = dict[str, Any]
Kind = Literal["subtitles", "descriptions"]  # of a track


class FileFormat(ABC):
    """All records in one file. Memory does not grow with their number."""

    suffix: ClassVar[str]

    def check(self) -> None:  # noqa: B027 (most formats need nothing)
        """Before any work. Raises UsageError where a library that it needs is absent."""

    @abstractmethod
    def write(self, records: Iterable[Record], part: Path) -> None:
        """Write the new file `part`. Raises UsageError for records that the format cannot hold."""


class FolderFormat(ABC):
    """All records in a few files of a folder, `names`. Memory does not grow with their number."""

    suffix: ClassVar[str] = ""
    names: ClassVar[tuple[str, ...]]

    def check(self) -> None:  # noqa: B027 (most formats need nothing)
        """Before any work. Raises UsageError where a library that it needs is absent."""

    @abstractmethod
    def write(self, records: Iterable[Record], folder: Path) -> None:
        """Write the files into `folder`, which is empty."""


@dataclass(frozen=True)
class Cue:
    """`text` is shown from `start` to `end`, in ms of the file; lines without an empty one; start < end."""

    start: int
    end: int
    text: str


class TrackFormat(ABC):
    """A subtitle track for each video."""

    suffix: ClassVar[str]

    @abstractmethod
    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        """The text of a track file; `cues` in the order of their starts."""
