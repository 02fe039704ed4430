"""Captions and categories in COCO's JSON, of images or of videos: `images` or `videos`, and `annotations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from mmattn.data.manifest.adapters.annotated import AnnotatedClip, AnnotatedSource
from mmattn.data.manifest.adapters.annotation_files import entries, plain_name, read_json
from mmattn.data.manifest.rows import SPLITS
from mmattn.errors import UsageError

_KINDS = {"images": "image_id", "videos": "video_id"}


@dataclass(frozen=True, kw_only=True)
class COCOSource(AnnotatedSource):
    """`files`: split -> JSON file of the annotations. The media are found by their `file_name`, with or without folder.

    Annotations with a `caption` give captions, those with a `category_id` give tags by `categories`.
    """

    name: ClassVar[str] = "COCO"
    images: ClassVar[bool] = True

    media: Sequence[str] = ("{path}", "{id}")
    files: Mapping[str, str]

    def clips(self) -> Iterator[AnnotatedClip]:
        if wrong := [split for split in self.files if split not in SPLITS]:
            raise UsageError(f"data.source.files: {wrong[0]!r} is none of {', '.join(SPLITS)}")
        given = {split: name for split, name in self.files.items() if name}
        if not given:
            raise UsageError("data.source.files names no file; set data.source.files.train=FILE and so on")
        for split, name in given.items():
            yield from _read(self.annotation_folder / name, split)


def _read(file: Path, split: str) -> Iterator[AnnotatedClip]:
    content = read_json(file)
    kind = next((kind for kind in _KINDS if isinstance(content, dict) and kind in content), None)
    if kind is None:
        raise UsageError(f"{file}: neither 'images' nor 'videos' in it")
    names = {
        entry["id"]: entry["name"]
        for entry, _ in entries(content.get("categories", []), f"{file}, categories", id=(int, str), name=str)
    }
    captions: dict[Any, list[str]] = {}
    tags: dict[Any, dict[str, None]] = {}
    key = _KINDS[kind]
    for entry, where in entries(content.get("annotations", []), f"{file}, annotations", **{key: (int, str)}):
        if isinstance(entry.get("caption"), str):
            captions.setdefault(entry[key], []).append(entry["caption"])
        if (category := entry.get("category_id")) is not None:
            if category not in names:
                raise UsageError(f"{where}: category_id {category!r} is not among the categories")
            tags.setdefault(entry[key], {})[names[category]] = None
    for entry, where in entries(content[kind], f"{file}, {kind}", id=(int, str), file_name=str):
        path = PurePosixPath(entry["file_name"])
        if path.is_absolute():
            raise UsageError(f"{where}: file_name {entry['file_name']!r} is absolute")
        for part in path.parts:
            plain_name(part, where)
        stem = path.with_suffix("")
        yield AnnotatedClip(
            f"{split}_{entry['id']}",
            {"path": str(stem), "id": stem.name},
            tuple(tags.get(entry["id"], ())),
            tuple(captions.get(entry["id"], ())),
            split,
        )
