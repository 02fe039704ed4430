"""GRID (Cooke et al., JASA 2006): 34 speakers say sentences of six words, with the time of every word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import plain_name, text_lines
from mmattn.data.manifest.columns import LabelledSegment
from mmattn.errors import UsageError
from mmattn.text import counted

_UNITS_A_SECOND = 25_000.0  # the sound's sample rate
_SLOTS = ("command", "colour", "preposition", "letter", "digit", "adverb")
_PAUSES = ("sil", "sp")


@dataclass(frozen=True, kw_only=True)
class GRIDSource(AnnotatedSource):
    """*.align files in a folder of their speaker (s1, s2, ...): start, end in 1/25000 s, word; media likewise.

    Every word is a tag of its place in the sentence (colour/blue), all of them are the caption, and their times the
    segments. `test_speakers`: the default are the unseen speakers of LipNet (Assael et al., 2016).
    """

    name: ClassVar[str] = "GRID"

    media: Sequence[str] = ("{speaker}/{id}", "{speaker}/video/{id}", "{speaker}/video/mpg_6000/{id}", "{speaker}_{id}")
    test_speakers: Sequence[int] = field(default=(1, 2, 20, 22))

    def clips(self) -> Iterator[AnnotatedClip]:
        folder = self.annotation_folder
        files = sorted(folder.rglob("*.align"))
        if not files:
            raise UsageError(f"{folder}: no .align files; set data.source.annotations to their folder")
        for file in files:
            speaker = next((part for part in reversed(file.parts[:-1]) if re.fullmatch(r"s\d{1,2}", part)), None)
            if speaker is None:
                raise UsageError(f"{file}: in no folder of a speaker, such as s1")
            yield self._clip(file, speaker)

    def _clip(self, file: Path, speaker: str) -> AnnotatedClip:
        words: list[LabelledSegment] = []
        for line in text_lines(file, None, 3):
            start, end = line.seconds(0) / _UNITS_A_SECOND, line.seconds(1) / _UNITS_A_SECOND
            if end < start:
                raise line.fault("the word ends before it starts")
            if line.cells[2] not in _PAUSES:
                words.append(LabelledSegment(line.cells[2], start, end))
        if len(words) != len(_SLOTS):
            raise UsageError(f"{file}: {counted(len(words), 'word')}, expected the {len(_SLOTS)} of a GRID sentence")
        sentence = plain_name(file.stem, str(file))
        return AnnotatedClip(
            f"{speaker}_{sentence}",
            {"id": sentence, "speaker": speaker},
            tuple(f"{slot}/{word.label}" for slot, word in zip(_SLOTS, words, strict=True)),
            (" ".join(word.label for word in words),),
            "test" if int(speaker[1:]) in self.test_speakers else "train",
            segments=tuple(words),
        )
