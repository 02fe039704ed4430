"""`mmattn data shard`: decode every clip of a data set once and store it as JPEG images and audio in tars.

Resumable: each tar is written to a temporary file and renamed, then its list; the next run continues after them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmattn.config.compose import Config, build
from mmattn.data.load.reader import ClipReader
from mmattn.data.manifest.columns import LabelledSegment
from mmattn.data.manifest.rows import SPLITS, Row
from mmattn.data.manifest.write import write_manifest
from mmattn.data.output_folder import finished, is_finished, labels_hash, making, read_made, refresh_labels, rows_hash
from mmattn.data.shards.source import COMMAND, MANIFEST_FILE, SHARDS_FILE
from mmattn.errors import MediaError, UsageError
from mmattn.files import beside, expanded, write_atomically
from mmattn.media.read.audio.downmix import DOWNMIXES, Downmix
from mmattn.media.read.request import Request
from mmattn.media.read.video.tone_map import Hdr
from mmattn.media.write.bundle import times, write_bundle
from mmattn.media.write.encode import AUDIO_FORMATS, AudioFormat
from mmattn.progress import Progress
from mmattn.text import counted
from mmattn.types import Clip

END_OF_TAR = bytes(1024)
UNREADABLE_FILE = "unreadable.jsonl"


@dataclass(frozen=True)
class ShardSettings:
    """How a clip is stored: its first `seconds`, with `fps` frames a second.

    Frames are upright with square pixels, at most `short_side` pixels on the shorter side, JPEG of `quality`. Audio is
    mono (`downmix` of more than two channels) at `sample_rate` Hz. A tar is full when it reaches `shard_mb` MB. `hdr`,
    `deinterlace`: see Renderer.
    """

    seconds: float
    fps: float
    short_side: int
    quality: int
    sound: AudioFormat
    sample_rate: int
    shard_mb: float
    hdr: Hdr = "tonemap"
    deinterlace: bool = True
    downmix: Downmix = "bs775"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name not in ("sound", "hdr", "deinterlace", "downmix") and not value > 0:
                raise UsageError(f"{name}={value}: expected a number above 0")
        if self.quality > 100:
            raise UsageError(f"quality={self.quality}: expected 1 to 100")
        if self.sound not in AUDIO_FORMATS:
            raise UsageError(f"sound={self.sound}: expected {' or '.join(AUDIO_FORMATS)}")
        if self.downmix not in DOWNMIXES:
            raise UsageError(f"downmix={self.downmix}: expected {' or '.join(DOWNMIXES)}")

    def recipe(self) -> dict[str, Any]:
        """The settings that determine the content; `downmix` "mean" is left out, as in folders of older versions."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("downmix", "mean")}

    def read(self, row: Row, reader: ClipReader) -> Clip:
        """The decoded clip. Raises MediaError."""
        header = reader.header(row.media)
        size = None
        if shown := header.shown_size:
            factor = min(1.0, self.short_side / min(shown))
            size = (max(1, round(shown[0] * factor)), max(1, round(shown[1] * factor)))
        end = row.start + self.seconds
        end = end if row.end is None else min(end, row.end)
        grid = [row.start + time for time in times(end - row.start, self.fps)]
        options = {"size": size, "hdr": self.hdr, "deinterlace": self.deinterlace}
        options |= {"audio_rate": self.sample_rate, "downmix": self.downmix}
        request = Request(grid, start=row.start, end=end, **options)
        clip = reader(row.media, request)
        if row.start == 0 and "no_frames" in clip.issues:  # ends before the first time, as stills do
            clip = reader(row.media, replace(request, times=[0.0]))
        shown = 0 if clip.frames is None else len(clip.frames) / self.fps
        heard = 0 if clip.waveform is None else len(clip.waveform) / clip.sample_rate
        if not shown and not heard:
            raise MediaError(clip.source, "no_streams", f"neither video nor audio after {row.start} s")
        return replace(clip, span=(row.start, min(end, row.start + max(shown, heard))))


def shard(config: Config) -> str:
    """Write the shards; returns a summary. Raises UsageError for another recipe in the same folder."""
    names = ("seconds", "fps", "short_side", "quality", "sound", "sample_rate", "shard_mb", "downmix")
    data = config["data"]
    conversion = {name: data["clip"][name] for name in ("hdr", "deinterlace")}
    settings = ShardSettings(**{name: config[name] for name in names}, **conversion)
    rows = build(data["source"]).rows()
    root = expanded(str(config["out"]))
    recipe = {**settings.recipe(), "rows": rows_hash(rows)}
    reader = ClipReader(isolated=data["isolated"], deadline_s=data["deadline_s"], threads=config["threads"])
    with making(root, SHARDS_FILE, recipe), closing(reader), Progress("sharding", len(rows)) as progress:
        if not is_finished(root, SHARDS_FILE):
            made = _Shards(root, settings, rows, reader, progress).write()
            finished(root, SHARDS_FILE, recipe, {**made, "labels": labels_hash(rows)})
        refresh_labels(root, SHARDS_FILE, root / MANIFEST_FILE, rows, _with_labels)
        for left in root.glob("*.list"):
            left.unlink()
    return _summary(root)


@dataclass
class _Shards:
    root: Path
    settings: ShardSettings
    rows: Sequence[Row]
    reader: ClipReader
    progress: Progress
    done: int = 0

    def write(self) -> dict[str, Any]:
        """Write all tars, then the manifest in the order of the rows; returns the facts for the folder's record."""
        entries: dict[int, dict[str, Any]] = {}
        tars: list[str] = []
        for split in SPLITS:
            numbers = [k for k, row in enumerate(self.rows) if row.split == split]
            numbers.sort(key=lambda k: hashlib.sha256(self.rows[k].id.encode("utf-8", "surrogatepass")).digest())
            for name, listed in self._split(split, numbers):  # any part of a tar is a fair sample
                tars += [name] if any("offset" in entry for entry in listed) else []
                entries |= {entry["row"]: {"tar": name, **entry} for entry in listed}
        good = [self._placed(self.rows[k], entries[k]) for k in sorted(entries) if "offset" in entries[k]]
        if not good:
            first = next(iter(entries.values()))
            raise UsageError(f"none of {counted(len(self.rows), 'clip')} is readable; the first: {first['error']}")
        write_manifest(good, self.root / MANIFEST_FILE)
        bad = [{"id": self.rows[k].id, **entries[k]["error"]} for k in sorted(entries) if "error" in entries[k]]
        write_atomically(self.root / UNREADABLE_FILE, "".join(json.dumps(record) + "\n" for record in bad).encode())
        sizes = {name: (self.root / name).stat().st_size for name in tars}
        return {"clips": len(good), "unreadable": len(bad), "tars": sizes}

    def _split(self, split: str, numbers: Sequence[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The tars of a split, each with the list of its clips; first those that an earlier run has finished."""
        at = tar = 0
        while (list_file := self.root / f"{split}-{tar:06d}.list").is_file():
            listed = json.loads(list_file.read_text())
            yield f"{list_file.stem}.tar", listed
            at, tar = at + len(listed), tar + 1
        bundles = self.reader.map(self._bundle, numbers[at:])
        while at < len(numbers):
            path = self.root / f"{split}-{tar:06d}.tar"
            listed = self._tar(path, bundles)
            write_atomically(path.with_suffix(".list"), json.dumps(listed).encode())
            yield path.name, listed
            at, tar = at + len(listed), tar + 1

    def _tar(self, path: Path, bundles: Iterator[tuple[int, bytes, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Write clips until the tar is full. Returns for each clip its row, and its byte range or its error."""
        listed: list[dict[str, Any]] = []
        with beside(path) as part, part.open("wb") as file:
            for number, bundle, found in bundles:
                place = {"offset": file.tell(), "size": len(bundle)} if bundle else {}
                listed.append({"row": number, **place, **found})
                file.write(bundle)
                self.done += 1
                self.progress.at(self.done)
                if file.tell() >= self.settings.shard_mb * 1e6:
                    break
            file.write(END_OF_TAR)
        if not any("offset" in entry for entry in listed):
            path.unlink()
        return listed

    def _bundle(self, number: int) -> tuple[int, bytes, dict[str, Any]]:
        """A clip as bytes for the tar, with its length in s; no bytes, with the error, if it is unreadable."""
        row, settings = self.rows[number], self.settings
        try:
            clip = settings.read(row, self.reader)
        except MediaError as error:
            return number, b"", {"error": {"path": error.path, "reason": error.reason, "detail": error.detail}}
        about = {"id": row.id, "split": row.split, "tags": row.tags, "captions": row.captions}
        about |= {"families": row.families, "segments": _moved(row, clip.span)}
        about |= {"tag_scores": row.tag_scores} if row.tag_scores else {}
        bundle = write_bundle(f"{number:08d}", clip, settings.fps, settings.sound, settings.quality, about)
        return number, bundle, {"seconds": clip.span[1] - clip.span[0]}

    def _placed(self, row: Row, entry: dict[str, Any]) -> Row:
        """The row of the clip in its tar."""
        seconds = entry["seconds"]
        segments = tuple(_moved(row, (row.start, row.start + seconds)))
        path, offset, size = self.root / entry["tar"], entry["offset"], entry["size"]
        return replace(row, path=path, start=0.0, end=seconds, segments=segments, offset=offset, size=size)


def _moved(row: Row, span: tuple[float, float]) -> list[LabelledSegment]:
    """The row's segments inside `span`, in s after its start."""
    start, end = span
    return [
        LabelledSegment(part.label, max(part.start, start) - start, min(part.end, end) - start)
        for part in row.segments
        if part.start < end and part.end > start
    ]


def _with_labels(kept: Row, row: Row) -> Row:
    """The row of a clip in its tar, with the labels of the clip in its file."""
    segments = tuple(_moved(row, (row.start, row.start + (kept.end or 0.0))))
    labels = {name: getattr(row, name) for name in ("tags", "captions", "families", "tag_scores")}
    return replace(kept, **labels, segments=segments)


def _summary(root: Path) -> str:
    made = read_made(root, SHARDS_FILE, COMMAND)["made"]
    clips, tars = counted(made["clips"], "clip"), counted(len(made["tars"]), "tar")
    text = f"{clips} in {tars}, {sum(made['tars'].values()) / 1e6:.1f} MB -> {root}"
    if made["unreadable"]:
        text += f"; {made['unreadable']} could not be read, listed in {root / UNREADABLE_FILE}"
    return text
