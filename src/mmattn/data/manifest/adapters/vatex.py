"""VATEX (Wang et al., ICCV 2019): ten seconds of a Kinetics video each, ten English and ten Chinese sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import entries, plain_name, read_json
from mmattn.errors import UsageError

Language = Literal["en", "zh", "both"]
_KEYS = {"en": ("enCap",), "zh": ("chCap",), "both": ("enCap", "chCap")}
_SPLITS = {"train": "train", "val": "val", "test": "test"}  # by a part of the file's name


@dataclass(frozen=True, kw_only=True)
class VATEXSource(AnnotatedSource):
    """The vatex_*.json files: a list of videoID (YouTube id, start and end in s, joined by _), enCap and chCap.

    Files of the private test split have no sentences, and their clips no captions.
    """

    name: ClassVar[str] = "VATEX"

    media: Sequence[str] = ("{clip}", "{id}_{start}_{end}", "{id}")
    language: Language = "en"

    def clips(self) -> Iterator[AnnotatedClip]:
        if self.language not in get_args(Language):
            raise UsageError(f"data.source.language={self.language}: expected {', '.join(get_args(Language))}")
        folder = self.annotation_folder
        files = {
            file: split
            for file in sorted(folder.glob("*.json"))
            for part, split in _SPLITS.items()
            if part in file.name
        }
        if not files:
            raise UsageError(f"{folder}: no json file of VATEX, such as vatex_training_v1.0.json")
        for file, split in files.items():
            for entry, where in entries(read_json(file), str(file), videoID=str):
                clip = plain_name(entry["videoID"], where)
                video, start, end = [*clip.rsplit("_", 2), "", ""][:3]
                if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
                    raise UsageError(f"{where}: videoID {clip!r} is not id_start_end")
                captions = [text for key in _KEYS[self.language] for text in _texts(entry.get(key, []), key, where)]
                names = {"clip": clip, "id": video, "start": int(start), "end": int(end)}
                span = (float(start), float(end))
                yield AnnotatedClip(clip, names, captions=tuple(captions), split=split, span=span, group=video)


def _texts(value: object, key: str, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{where}: {key} is not a list of sentences")
    return value
