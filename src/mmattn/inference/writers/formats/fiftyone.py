"""A FiftyOne dataset of videos with temporal detections (fiftyone.types.FiftyOneTemporalDetectionDataset).

`data.json` holds the path of each file, `labels.json` the classes and their times. No media are copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmattn.inference.records.build import Record
from mmattn.inference.writers.interface import FolderFormat
from mmattn.text import one_line, utf8


class FiftyOne(FolderFormat):
    """The files that were read, with their tags that have times.

    Samples are named by numbers, because FiftyOne takes anything after a dot for a suffix.
    """

    names = ("data.json", "labels.json")

    def write(self, records: Iterable[Record], folder: Path) -> None:
        classes: dict[str, int] = {}
        begun = "{"
        with (
            (folder / "data.json").open("w", encoding="ascii") as data,
            (folder / "labels.json").open("w", encoding="ascii") as labels,
        ):
            labels.write('{"labels": ')
            for number, record in enumerate(record for record in records if record["status"] == "ok"):
                data.write(f'{begun}\n"{number:08d}": {json.dumps(utf8(record["path"]))}')
                labels.write(f'{begun}\n"{number:08d}": {json.dumps(_detections(record, classes) or None)}')
                begun = ","
            data.write("}" if begun == "," else "{}")
            labels.write("}" if begun == "," else "{}")
            labels.write(f', "classes": {json.dumps(list(classes))}}}')


def _detections(record: Record, classes: dict[str, int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for tag in record["tags"]:
        label = classes.setdefault(one_line(tag["tag"]), len(classes))
        more = {name: tag[name] for name in ("modality", "from") if tag.get(name) is not None}
        detection = {"label": label, "confidence": tag["score"], "attributes": more}
        found += [{**detection, "timestamps": span} for span in tag.get("segments") or []]
    return found
