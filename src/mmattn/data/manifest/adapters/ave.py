"""AVE (Tian et al., ECCV 2018): ten seconds of a video each, an event seen and heard for a part of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import text_lines
from mmattn.data.manifest.columns import LabelledSegment

_SETS = {"trainSet.txt": "train", "valSet.txt": "val", "testSet.txt": "test"}


@dataclass(frozen=True, kw_only=True)
class AVESource(AnnotatedSource):
    """Annotations.txt and the three set files: Category&VideoID&Quality&StartTime&EndTime, seconds within the clip.

    A video that is listed for several events is one clip with all their tags and segments; listed in several sets it
    belongs to the last of train, val, test, so that no test clip is trained on.
    """

    name: ClassVar[str] = "AVE"

    media: Sequence[str] = ("{id}",)

    def clips(self) -> Iterator[AnnotatedClip]:
        folder = self.annotation_folder
        splits: dict[str, str] = {}
        for file, split in _SETS.items():
            splits |= {line.name(1): split for line in text_lines(folder / file, "&", 5)}
        tags: dict[str, list[str]] = {}
        segments: dict[str, list[LabelledSegment]] = {}
        for line in text_lines(folder / "Annotations.txt", "&", 5):
            if line.cells[0] == "Category" and line.number == 1:
                continue
            video, start, end = line.name(1), line.seconds(3), line.seconds(4)
            if video not in splits:
                raise line.fault(f"{video} is in none of {', '.join(_SETS)}")
            tags.setdefault(video, []).append(line.cells[0])
            if end > start:  # some events have no length
                segments.setdefault(video, []).append(LabelledSegment(line.cells[0], start, end))
        for video, named in tags.items():
            yield AnnotatedClip(
                video,
                {"id": video},
                tuple(dict.fromkeys(named)),
                split=splits[video],
                segments=tuple(segments.get(video, ())),
            )
