"""Public data sets: their annotation files as published, and your media anywhere below the root.

An adapter reads the annotations and gives the possible file names of each clip. The files below the root are listed
once and found by name, so folders and container formats do not matter, and no annotation can refer outside the root.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import ClassVar

from mmattn.data.manifest.checked import readable
from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import Row
from mmattn.data.manifest.sources import Source, held_out
from mmattn.data.manifest.walk import walk
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.text import counted

# Of two files of one name the earlier kind is used: the video, not the audio extracted from it.
_VIDEO = ("mp4", "mkv", "webm", "mov", "avi", "m4v", "flv", "mpg", "mpeg", "3gp", "ogv", "ts", "mts", "wmv", "gif")
_SOUND = ("wav", "flac", "m4a", "mp3", "ogg", "opus", "aac", "wma")
_IMAGE = ("jpg", "jpeg", "png", "webp")  # beside a video an image is its thumbnail, so only for sets of images


@dataclass(frozen=True, slots=True)
class AnnotatedClip:
    """One annotated clip. Times of `segments` in s from the clip's start.

    `names`: the values of the placeholders in file names. `span`: the clip's part of the video that it was cut from,
    for files that are whole videos. `group`: clips of one group belong to one split.
    """

    id: str
    names: Mapping[str, str | int]
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    split: str | None = None
    span: tuple[float, float] | None = None
    segments: tuple[LabelledSegment, ...] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """An annotated clip without media, and the file names (without suffix) that were tried."""

    id: str
    looked_for: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnnotatedSource(Source):
    """`root`: the folder of the media; `annotations`: that of the annotation files, None = the root too.

    `media`: possible file names, without suffix; the first one found is used. A name with {start} (or VATEX's {clip})
    is that of a cut clip; one without it that of the whole video, of which the clip's span is read. `cut` overrides
    this.
    `val_fraction`: the fraction of the training clips used for validation if the set has no validation split.
    `checked`: a check.jsonl, see FolderSource.
    """

    name: ClassVar[str]
    images: ClassVar[bool] = False  # whether an image is a clip

    root: str
    annotations: str | None = None
    media: Sequence[str] = field(default=("{id}",))
    cut: bool | None = None
    val_fraction: float = 0.1
    checked: str | None = None

    @abstractmethod
    def clips(self) -> Iterable[AnnotatedClip]:
        """Every annotated clip. Raises UsageError with file and line for invalid annotations."""

    def rows(self) -> list[Row]:
        rows, missing = self.find()
        if not rows:
            example = f"; the first, {missing[0].id}, would be called {' or '.join(missing[0].looked_for)}"
            raise UsageError(
                f"{self.root}: no media of {self.name}'s {counted(len(missing), 'clip')}{example}; "
                "set data.source.media to their names"
            )
        if missing:
            print(
                f"{self.name}: {len(missing)} of {len(rows) + len(missing)} clips have no media, such as "
                f"{missing[0].id}; mmattn data manifest lists them",
                file=sys.stderr,
            )
        return readable(rows, expanded(self.checked)) if self.checked else rows

    def find(self) -> tuple[list[Row], list[Missing]]:
        """The rows of clips with media, and the clips without. Raises UsageError for duplicate ids."""
        patterns = [NamePattern(text) for text in self.media]
        clips = list(self.clips())
        if not clips:
            raise UsageError(f"{self.annotation_folder}: the annotations of {self.name} name no clip")
        if twice := [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]:
            raise UsageError(f"{self.annotation_folder}: {self.name} has the clip {twice[0]!r} more than once")
        index = MediaIndex(existing_folder(self.root), self.images)
        validated = any(clip.split == "val" for clip in clips)
        rows: list[Row] = []
        missing: list[Missing] = []
        for clip in clips:
            names = [pattern.fill(clip.names, self.name) for pattern in patterns]
            place, path = next(((i, path) for i, name in enumerate(names) if (path := index.get(name))), (0, None))
            if path is None:
                missing.append(Missing(clip.id, tuple(dict.fromkeys(names))))
                continue
            cut = patterns[place].of_cut if self.cut is None else self.cut
            split = clip.split or "train"
            if split == "train" and not validated:
                split = held_out(clip.group or clip.id, self.val_fraction)
            rows.append(_row(clip, path, None if cut else clip.span, split))
        return rows, missing

    @property
    def annotation_folder(self) -> Path:
        """The folder of the annotation files."""
        return existing_folder(self.annotations or self.root)


def _row(clip: AnnotatedClip, path: Path, span: tuple[float, float] | None, split: str) -> Row:
    start, end = span or (0.0, None)
    segments = tuple(LabelledSegment(part.label, start + part.start, start + part.end) for part in clip.segments)
    return Row(clip.id, path, start, end, clip.tags, clip.captions, split, segments=segments)


class NamePattern:
    """A file's name, without suffix, with placeholders: "{id}_{start:06d}"."""

    def __init__(self, text: str) -> None:
        try:
            self._parts = [(literal, name, spec or "") for literal, name, spec, _ in Formatter().parse(text)]
        except ValueError as error:
            raise UsageError(f"media name {text!r}: {error}") from None
        self.text = text
        self.of_cut = any(name in ("start", "start_ms", "clip") for _, name, _ in self._parts)

    def fill(self, names: Mapping[str, str | int], of: str) -> str:
        """Raises UsageError for a placeholder that is not among `names`."""
        filled = ""
        for literal, name, spec in self._parts:
            filled += literal
            if name is None:
                continue
            if name not in names:  # so none of {id.attribute} or {id[0]} either
                known = ", ".join("{" + each + "}" for each in names)
                raise UsageError(f"media name {self.text!r}: {of} knows no {{{name}}}; it knows {known}")
            try:
                filled += format(names[name], spec)
            except ValueError as error:
                raise UsageError(f"media name {self.text!r}: {error}") from None
        return filled


class MediaIndex:
    """The media files below a folder by the end of their path without suffix: "x", "class/x"."""

    def __init__(self, root: Path, images: bool = False) -> None:
        kinds = (_VIDEO, _SOUND, _IMAGE) if images else (_VIDEO, _SOUND)
        self._rank = {suffix: rank for rank, kind in enumerate(kinds) for suffix in kind}
        self._files: dict[str, list[str]] = {}  # name without suffix -> paths
        for folder, names in walk(root, Counter(), follow_links=True):
            for name in names:
                stem, _, suffix = name.rpartition(".")
                if stem and suffix.lower() in self._rank:
                    self._files.setdefault(stem, []).append(f"{folder}/{name}")

    def get(self, name: str) -> Path | None:
        """The file of that name; of several, video before audio, then the first by path."""
        folder, _, stem = name.rpartition("/")
        paths = self._files.get(stem, [])
        if folder:
            paths = [path for path in paths if path.rpartition("/")[0].endswith(f"/{folder}")]
        return Path(min(paths, key=self._order)) if paths else None

    def _order(self, path: str) -> tuple[int, str]:
        return self._rank[path.rpartition(".")[2].lower()], path

    def __iter__(self) -> Iterator[Path]:
        """One file for each name and folder, in order."""
        for stem in sorted(self._files):
            folders = {path.rpartition("/")[0] for path in self._files[stem]}
            for folder in sorted(folders):
                inside = [path for path in self._files[stem] if path.rpartition("/")[0] == folder]
                yield Path(min(inside, key=self._order))


def existing_folder(text: str) -> Path:
    """The folder at `text`. Raises UsageError if there is none."""
    folder = expanded(text)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory; set data.root=DIR to your media (and data.source.annotations)")
    return folder
