"""AudioCaps (Kim et al., NAACL 2019): ten seconds of an AudioSet video each, with what is heard as a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import csv_lines
from mmattn.errors import UsageError

_SECONDS = 10.0
_COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


@dataclass(frozen=True, kw_only=True)
class AudioCapsSource(AnnotatedSource):
    """train.csv, val.csv and test.csv: audiocap_id, youtube_id, start_time, caption; those that are there.

    The validation and test clips have five lines each: one clip with five captions here.
    """

    name: ClassVar[str] = "AudioCaps"

    media: Sequence[str] = (
        "{id}_{start}",
        "{id}_{start:06d}",
        "{id}_{start_ms}_{end_ms}",
        "{audiocap_id}",
        "{id}",
        "Y{id}",
    )

    def clips(self) -> Iterator[AnnotatedClip]:
        folder = self.annotation_folder
        files = {split: folder / f"{split}.csv" for split in ("train", "val", "test")}
        if not any(file.is_file() for file in files.values()):
            raise UsageError(f"{folder}: none of train.csv, val.csv and test.csv")
        for split, file in files.items():
            captions: dict[tuple[str, float], list[str]] = {}
            numbers: dict[tuple[str, float], str] = {}
            for line in csv_lines(file, _COLUMNS, True) if file.is_file() else ():
                place = line.name(1), line.seconds(2)
                captions.setdefault(place, []).append(line.cells[3])
                numbers.setdefault(place, line.name(0))
            for (video, start), said in captions.items():
                end = start + _SECONDS
                names = {"id": video, "start": int(start), "end": int(end), "audiocap_id": numbers[video, start]}
                names |= {"start_ms": round(1000 * start), "end_ms": round(1000 * end)}
                clip = f"{video}_{int(start)}"
                yield AnnotatedClip(clip, names, captions=tuple(said), split=split, span=(start, end), group=video)
