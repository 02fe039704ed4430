"""Draws captions, or tags, into videos while they are present, exact to a frame."""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmattn.errors import MediaError
from mmattn.inference.records.build import Record
from mmattn.inference.writers.interface import Cue
from mmattn.inference.writers.ledger import Ledger, open_ledger
from mmattn.inference.writers.subtitles.cues import TAG_MARK, cues_of
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.replay import even_size, replay
from mmattn.media.write.video import writing_video
from mmattn.text import clean, one_line

SUFFIX = ".mp4"
MAX_FPS, AUDIO_HZ, TAGS, LINES = 60, 48000, 5, 4


@dataclass(frozen=True)
class BurnIn:
    """Writes videos to `folder`. `height`: of the frames, pixels.

    `overwrite`: also replace files that this job did not write.
    """

    folder: Path
    height: int
    overwrite: bool

    def write(self, records: Iterable[Record], database: Path, reader: IsolatedReader) -> Counter[str]:
        """How many videos were "written", "kept" (written by others), had "nothing" to show, or were "unreadable".

        A video that exists and would not change is not written again. Raises MmattnError.
        """
        counts: Counter[str] = Counter()
        with open_ledger(database, self.folder, SUFFIX, self.overwrite) as ledger:
            for record in records:
                if record["status"] == "ok" and "video" in record["modality"]["used"]:
                    counts[self._write(record, ledger, reader)] += 1
            ledger.remove_stale()
        return counts

    def _write(self, record: Record, ledger: Ledger, reader: IsolatedReader) -> str:
        path = Path(record["path"])
        cues = cues_of(record) or _untimed(record)
        if not cues:
            return "nothing"
        try:
            stamp = path.stat()
        except OSError:
            return "unreadable"
        drawn = [[astuple(cue) for cue in cues], self.height, stamp.st_size, stamp.st_mtime_ns]
        mark = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()
        read_to = max((end for _, end in record["spans"]), default=0.0)
        try:
            return ledger.make(record, mark, lambda part: self._draw(path, cues, part, reader, read_to))
        except MediaError:
            return "unreadable"

    def _draw(self, path: Path, cues: Sequence[Cue], part: Path, reader: IsolatedReader, read_to: float) -> None:
        header = reader.survey(path, "header")
        size = even_size(header.shown_size or (1, 1), self.height)
        fps = Fraction(min(MAX_FPS, max(1.0, header.fps or 25.0))).limit_denominator(1001)
        rate = None if header.audio_codec is None else AUDIO_HZ
        showing, overlay = _Showing(cues), _Overlay(size)
        film = part.with_name(part.name + SUFFIX)
        try:
            with writing_video(film, size, fps, rate, options={"crf": "20"}) as writer:
                picture = np.zeros((*size, 3), np.uint8)
                for piece in replay(path, reader.read, fps, header.duration or read_to, size, rate):
                    for k, time in enumerate(piece.times):
                        picture = piece.frames[k] if piece.frames is not None and k < len(piece.frames) else picture
                        writer.show(overlay.over(picture, showing.at(1000 * time)))
                    if piece.samples is not None:
                        writer.sound(piece.samples)
            film.replace(part)
        finally:
            film.unlink(missing_ok=True)


def _untimed(record: Record) -> list[Cue]:
    """A cue over the whole video with the best tags, for tags without times."""
    text = TAG_MARK.join(one_line(tag["tag"]) for tag in record.get("tags", [])[:TAGS])
    return [Cue(0, 1000 * 24 * 3600, text)] if text else []


class _Showing:
    """The texts to show at a time; times must be requested in order."""

    def __init__(self, cues: Sequence[Cue]) -> None:
        self._coming: Iterator[Cue] = iter(cues)
        self._next = next(self._coming, None)
        self._on: list[Cue] = []

    def at(self, ms: float) -> tuple[str, ...]:
        while self._next is not None and self._next.start <= ms:
            self._on.append(self._next)
            self._next = next(self._coming, None)
        self._on = [cue for cue in self._on if ms < cue.end]
        return tuple(cue.text for cue in self._on)


class _Overlay:
    """Draws text on a dark band at the bottom of frames. The band is drawn again only if the text changes."""

    def __init__(self, size: tuple[int, int]) -> None:
        tall, wide = size
        self._points = max(10, round(tall / 18))
        self._font = ImageFont.load_default(self._points)
        self._columns = max(8, int(0.94 * wide / self._font.getlength("n")))
        self._size = size
        self._texts: tuple[str, ...] = ()
        self._band: tuple[int, np.ndarray, np.ndarray] | None = None  # top, colour (H, W, 3), opacity (H, W, 1)

    def over(self, picture: np.ndarray, texts: tuple[str, ...]) -> np.ndarray:
        """(H, W, 3) uint8 with the texts."""
        if texts != self._texts:
            self._texts, self._band = texts, self._drawn(texts) if texts else None
        if self._band is None:
            return picture
        top, colour, opacity = self._band
        drawn = picture.copy()
        drawn[top:] = (picture[top:] * (1 - opacity) + colour * opacity).astype(np.uint8)
        return drawn

    def _drawn(self, texts: tuple[str, ...]) -> tuple[int, np.ndarray, np.ndarray]:
        parts = [part for text in texts for part in text.split("\n")]
        lines = [line for part in parts for line in textwrap.wrap(clean(part), self._columns)]
        lines = [*lines[: LINES - 1], lines[LINES - 1] + " \u2026"] if len(lines) > LINES else lines
        tall, wide = self._size
        step = round(1.35 * self._points)
        band = Image.new("RGBA", (wide, min(tall, step * len(lines) + step // 2)), (0, 0, 0, 160))
        pen = ImageDraw.Draw(band)
        for i, line in enumerate(lines):
            pen.text((wide / 2, step * (i + 0.75)), line, fill=(255, 255, 255, 255), font=self._font, anchor="mm")
        pixels = np.asarray(band).astype(np.float32)
        return tall - band.height, pixels[..., :3], pixels[..., 3:] / 255
