"""Kinetics (Kay et al., 2017) and Kinetics-Sounds: some ten seconds of a video each, one human action."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import csv_lines, csv_names
from mmattn.data.manifest.columns import split_name
from mmattn.errors import UsageError
from mmattn.text import counted

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


@dataclass(frozen=True, kw_only=True)
class KineticsSource(AnnotatedSource):
    """Every csv of the annotations with the columns label, youtube_id, time_start, time_end, split.

    Lists of test clips with unpublished labels have no column label: they are left out and reported.

    `classes`: the labels to use, None = all. Kinetics-Sounds (Arandjelovic and Zisserman, "Look, Listen and Learn",
    ICCV 2017, appendix A.1) is such a choice.
    """

    name: ClassVar[str] = "Kinetics"

    media: Sequence[str] = ("{id}_{start:06d}_{end:06d}", "{id}_{start}_{end}", "{id}_{start:06d}", "{id}")
    classes: Sequence[str] | None = None

    def clips(self) -> Iterator[AnnotatedClip]:
        folder = self.annotation_folder
        files = _labelled(folder)
        wanted = None if self.classes is None else set(self.classes)
        met: set[str] = set()
        for file in files:
            for line in csv_lines(file, _COLUMNS, True):
                label, video, start, end = line.cells[0], line.name(1), line.seconds(2), line.seconds(3)
                met.add(label)
                if wanted is not None and label not in wanted:
                    continue
                try:
                    split = split_name(line.cells[4])
                except ValueError as error:
                    raise line.fault(str(error)) from None
                if end <= start:
                    raise line.fault(f"end {end} s is not after start {start} s")
                yield AnnotatedClip(
                    f"{video}_{int(start):06d}_{int(end):06d}",
                    {"id": video, "start": int(start), "end": int(end), "label": label},
                    (label,),
                    split=split,
                    span=(start, end),
                    group=video,
                )
        if wanted is not None and (absent := sorted(wanted - met)):
            raise UsageError(f"{folder}: data.source.classes names {absent[0]!r}, which no line has")


def _labelled(folder: Path) -> list[Path]:
    """The csv files with labelled clips; prints which ones are not."""
    labelled: list[Path] = []
    apart: list[str] = []
    for file in sorted(folder.rglob("*.csv")):
        names = csv_names(file)
        if set(_COLUMNS) <= set(names):
            labelled.append(file)
        elif set(_COLUMNS[1:4]) <= set(names):
            absent = next(name for name in _COLUMNS if name not in names)
            clips = sum(1 for _ in csv_lines(file, _COLUMNS[1:4], True))
            apart.append(f"{file.name}: no column {absent!r}, {counted(clips, 'clip')} left out")
        else:
            apart.append(f"{file.name}: not a list of Kinetics, skipped")
    others = "; ".join(apart[:5]) + (f"; and {len(apart) - 5} more" if len(apart) > 5 else "")
    if not labelled:
        raise UsageError(
            f"{folder}: no csv file with the columns {', '.join(_COLUMNS)}" + (f" ({others})" if others else "")
        )
    if apart:
        print(f"{folder}: {others}", file=sys.stderr)
    return labelled
