"""Kinetics (Kay et al., 2017) and Kinetics-Sounds: some ten seconds of a video each, one human action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedSource, Clip
from mmattn.data.manifest.adapters.read import csv_lines
from mmattn.errors import UsageError

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class KineticsSource(AnnotatedSource):
    """Every csv of the annotations with the columns label, youtube_id, time_start, time_end, split.

    `classes`: the labels to take, None = all. Kinetics-Sounds (Arandjelovic and Zisserman, "Look, Listen and Learn",
    ICCV 2017, appendix A.1) is such a choice.
    """

    name: ClassVar[str] = "Kinetics"

    media: Sequence[str] = ("{id}_{start:06d}_{end:06d}", "{id}_{start}_{end}", "{id}_{start:06d}", "{id}")
    classes: Sequence[str] | None = None

    def clips(self) -> Iterator[Clip]:
        folder = self.annotation_folder
        files = [file for file in sorted(folder.rglob("*.csv")) if _is_kinetics(file)]
        if not files:
            raise UsageError(f"{folder}: no csv file with the columns {', '.join(_COLUMNS)}")
        wanted = None if self.classes is None else set(self.classes)
        met: set[str] = set()
        for file in files:
            for line in csv_lines(file, _COLUMNS, True):
                label, video, start, end = line.cells[0], line.name(1), line.seconds(2), line.seconds(3)
                met.add(label)
                if wanted is not None and label not in wanted:
                    continue
                if line.cells[4] not in _SPLITS:
                    raise line.fault(f"split {line.cells[4]!r} is none of {', '.join(_SPLITS)}")
                if end <= start:
                    raise line.fault(f"end {end} s is not after start {start} s")
                yield Clip(
                    f"{video}_{int(start):06d}_{int(end):06d}",
                    {"id": video, "start": int(start), "end": int(end), "label": label},
                    (label,),
                    split=_SPLITS[line.cells[4]],
                    span=(start, end),
                    group=video,
                )
        if wanted is not None and (absent := sorted(wanted - met)):
            raise UsageError(f"{folder}: data.source.classes names {absent[0]!r}, which no line has")


def _is_kinetics(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.readline(1 << 12).decode("utf-8", "replace").lstrip("\ufeff")
    return set(_COLUMNS) <= {name.strip().lower() for name in header.split(",")}
