"""What a record is about: a file, or a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmattn.files import ByteRange
from mmattn.media.open.source import name_of

if TYPE_CHECKING:  # what drives a job needs no torch
    from torch import Tensor

    from mmattn.data.load.reading import ClipReader
    from mmattn.media.isolate.reader import IsolatedReader
    from mmattn.media.read.windows import Windows
    from mmattn.types import Clip


@dataclass(frozen=True)
class Piece:
    """`media` from `start` to `end` s; None: to its end."""

    media: Path | ByteRange
    start: float = 0.0
    end: float | None = None

    @property
    def name(self) -> str:
        return name_of(self.media)

    def windows(self, reader: ClipReader | IsolatedReader, windows: Windows) -> Iterator[Clip]:
        """What iter_windows would give if the file were this part of it; times stay those of the file.

        The file is decoded from its beginning. Raises MediaError.
        """
        request = replace(windows.request, start=self.start, end=self.start + windows.window_s)
        windows = replace(windows, request=request)
        with closing(reader.windows(self.media, windows)) as clips:  # type: ignore[type-var]  # generators
            for k, clip in enumerate(clips):
                yield self._cut(clip, windows.audio_rates)
                if self.end is not None and self.end <= windows.goal(k):
                    return

    def _cut(self, clip: Clip, rates: tuple[int, ...]) -> Clip:
        """Without what comes after the end. `rates`: of clip.sounds, Hz."""
        if self.end is None:
            return clip
        end = self.end

        def before(frames: Tensor | None, times: Tensor) -> tuple[Tensor | None, Tensor]:
            there = times < end
            return None if frames is None else frames[there], times[there]

        frames, frame_times = before(clip.frames, clip.frame_times)

        def heard(sound: Tensor | None, rate: int) -> Tensor | None:
            kept = None if sound is None else sound[: max(0, round((end - clip.audio_start) * rate))]
            return kept if kept is not None and len(kept) else None

        return replace(
            clip,
            frames=frames,
            frame_times=frame_times,
            views=tuple(type(view)(*before(view.frames, view.times)) for view in clip.views),
            waveform=heard(clip.waveform, clip.sample_rate),
            sounds=tuple(heard(sound, rate) for sound, rate in zip(clip.sounds, rates, strict=True)),
            duration=None if clip.duration is None else min(clip.duration, self.end),
        )


def as_piece(given: Path | ByteRange | Piece) -> Piece:
    return given if isinstance(given, Piece) else Piece(given)
