"""VGGSound (Chen et al., ICASSP 2020): ten seconds of a video each, one of 309 sounds whose source is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import csv_lines

_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class VGGSoundSource(AnnotatedSource):
    """vggsound.csv: YouTube id, start in s, label, split (train or test), without a header.

    The set has no validation split: `val_fraction` of the training videos is held out.
    """

    name: ClassVar[str] = "VGGSound"

    media: Sequence[str] = ("{id}_{start:06d}", "{id}_{start}", "{id}_{start_ms}_{end_ms}", "{id}")
    csv: str = "vggsound.csv"

    def clips(self) -> Iterator[AnnotatedClip]:
        for line in csv_lines(self.annotation_folder / self.csv, ("YouTube ID", "start", "label", "split"), False):
            video, start, label, split = line.name(0), line.seconds(1), line.cells[2], line.cells[3]
            if split not in ("train", "test"):
                raise line.fault(f"split {split!r} is neither train nor test")
            end = start + _SECONDS
            times = {"start": int(start), "end": int(end), "start_ms": round(1000 * start), "end_ms": round(1000 * end)}
            names = {"id": video, "label": label, **times}
            yield AnnotatedClip(
                f"{video}_{int(start):06d}", names, (label,), split=split, span=(start, end), group=video
            )
