"""COCO's caption results, which pycocoevalcap reads: [{"image_id": ..., "caption": ...}, ...], one for each file.

The captions of a file are joined in time order, because the evaluation takes one. Files without captions are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.records.build import Record
from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.inference.writers.interface import FileFormat
from mmattn.text import one_line, utf8


@dataclass(frozen=True)
class COCOCaptions(FileFormat):
    """`numbers`: write an id that is a whole number as a number, as COCO does."""

    numbers: bool = True
    suffix = ".json"

    def write(self, records: Iterable[Record], part: Path) -> None:
        before = "["
        with part.open("w", encoding="ascii") as file:
            for record in records:
                if caption := _caption(record):
                    result = {"image_id": self._id(record["id"]), "caption": caption}
                    file.write(f"{before}\n{json.dumps(result)}")
                    before = ","
            if before == "[":
                raise UsageError("format=coco holds captions, and no record has one; choose another format")
            file.write("\n]\n")

    def _id(self, name: str) -> str | int:
        is_number = re.fullmatch("0|[1-9][0-9]{0,17}", name) is not None  # fits 64 bits
        return int(name) if self.numbers and is_number else utf8(name)


def _caption(record: Record) -> str:
    captions = sorted(side_by_side(record), key=lambda caption: caption["start"])
    return " ".join(text for caption in captions if (text := one_line(caption["text"])))
