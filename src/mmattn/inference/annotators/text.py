"""Reads text in the video with the program tesseract, on a frame every two seconds.

The text of a frame is the lines with words that tesseract is sure of. Consecutive frames with the same text give one
entry.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import unicodedata
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import Annotation, Annotator, FileWindow, Findings, Setting
from mmattn.media.read.windows.views import FrameView

_WORD = "5"  # the level of words in tesseract's table
_TIMEOUT_S = 60.0  # for a frame
_MIN_LETTERS = 3  # and digits, of a line


class Text(Annotator):
    """`languages`: tesseract's names for them (eng+deu). `step_s`: seconds from frame to frame.

    `height`: of the frames, pixels. `min_confidence`: of a word, 0 to 100.
    """

    def __init__(
        self,
        setting: Setting,
        name: str = "text",
        languages: str = "eng",
        step_s: float = 1.92,
        height: int = 720,
        min_confidence: float = 70,
    ) -> None:
        """Raises UsageError if the program or the data of a language is missing."""
        if not step_s > 0:
            raise UsageError(f"{name}.step_s={step_s}: expected a number of seconds above 0")
        self.name, self.languages, self.min_confidence = name, languages, min_confidence
        self.step_s = step_s
        self.version = _version(name, languages)
        self.view = FrameView(1 / step_s, (height, height * 16 // 9), "pad")

    def begin(self, start: float) -> Annotation:
        return _TextReading(self)

    def read(self, frame: Tensor) -> str:
        """The text of a frame (3, H, W) uint8, line by line."""
        picture = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).numpy())).save(picture, "bmp")
        options = ["-l", self.languages, "--psm", "11", "tsv"]  # 11: sparse text
        table = _run(["tesseract", "stdin", "stdout", *options], picture.getvalue())
        return text_of(table, self.min_confidence)


def text_of(table: str, min_confidence: float) -> str:
    """The lines of tesseract's table with their words of at least that confidence.

    A line needs three letters or digits, in one word unless its script has no spaces: in leaves and fabric tesseract is
    sure of many words of two letters.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
        word = (row["text"] or "").strip()
        if row["level"] == _WORD and float(row["conf"]) >= min_confidence and any(map(str.isalnum, word)):
            lines.setdefault((row["block_num"], row["par_num"], row["line_num"]), []).append(word)
    return "\n".join(" ".join(words) for words in lines.values() if _is_text(words))


def _is_text(words: list[str]) -> bool:
    whole = "".join(words)
    parts = [whole] if any(unicodedata.east_asian_width(character) == "W" for character in whole) else words
    return max(sum(map(str.isalnum, part)) for part in parts) >= _MIN_LETTERS


class _TextReading(Annotation):
    def __init__(self, text: Text) -> None:
        self._text = text
        self._found: list[dict[str, Any]] = []
        self._before: tuple[bytes, str] | None = None  # the last frame and its text
        self._used, self._end, self._from = False, 0.0, float("-inf")

    def update(self, window: FileWindow) -> None:
        frames = window.own_frames
        if frames.frames is None:
            return
        for time, frame in zip(frames.times.tolist(), frames.frames.cpu(), strict=True):
            if time < self._from:
                continue  # the first frame of a window may follow the last one closely
            self._from = time + 0.5 * self._text.step_s
            end = time + self._text.step_s
            self._used, self._end = True, end if window.duration is None else max(time, min(end, window.duration))
            self._add(time, self._read(frame))

    def findings(self) -> Findings:
        return Findings({"texts": self._found} if self._used else {}, ("video",) if self._used else (), self._end)

    def _read(self, frame: Tensor) -> str:
        """The text of a frame. Identical frames in a row are read once."""
        pixels = frame.numpy().tobytes()
        if self._before is None or self._before[0] != pixels:
            self._before = pixels, self._text.read(frame)
        return self._before[1]

    def _add(self, time: float, text: str) -> None:
        before = self._found[-1] if self._found else None
        if before is not None and before["text"] == text and time - before["end"] < 0.5 * self._text.step_s:
            before["end"] = round(self._end, 3)
        elif text:
            self._found.append({"start": round(time, 3), "end": round(self._end, 3), "text": text})


def _version(name: str, languages: str) -> str:
    """The version of the program. Raises UsageError."""
    try:
        installed = _run(["tesseract", "--list-langs"]).split()
        version = _run(["tesseract", "--version"]).splitlines()[0].strip()
    except FileNotFoundError:
        raise UsageError(f"{name} needs tesseract: apt-get install tesseract-ocr tesseract-ocr-eng") from None
    if missing := [one for one in languages.split("+") if one not in installed]:
        raise UsageError(f"{name}.languages={languages}: apt-get install tesseract-ocr-{missing[0]}")
    return version


def _run(command: list[str], given: bytes = b"") -> str:
    """The output of the program, run on one thread; no text if it fails or takes too long."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=_TIMEOUT_S, env={**os.environ, "OMP_THREAD_LIMIT": "1"}
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode("utf-8", "replace")
