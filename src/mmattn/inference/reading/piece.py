"""A file or a part of it: the unit that has one record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmattn.files import ByteRange
from mmattn.media.open.source import name_of

if TYPE_CHECKING:  # the driver of a job needs no torch
    from torch import Tensor

    from mmattn.data.load.reader import ClipReader
    from mmattn.media.isolate.reader import IsolatedReader
    from mmattn.media.read.windows.layout import Windows
    from mmattn.types import Clip


@dataclass(frozen=True)
class Piece:
    """`media` from `start` to `end` in seconds. `end` None: to the end of the file."""

    media: Path | ByteRange
    start: float = 0.0
    end: float | None = None

    @property
    def name(self) -> str:
        """The path, with the member's place if the media is inside a tar."""
        return name_of(self.media)

    def windows(self, reader: ClipReader | IsolatedReader, windows: Windows) -> Iterator[Clip]:
        """The windows of this part. Times are those of the whole file, which is decoded from its beginning.

        Raises MediaError.
        """
        request = replace(windows.request, start=self.start, end=self.start + windows.window_s)
        windows = replace(windows, request=request)
        with closing(reader.windows(self.media, windows)) as clips:  # type: ignore[type-var]  # generators
            for k, clip in enumerate(clips):
                yield self._cut(clip, windows.audio_rates)
                if self.end is not None and self.end <= windows.goal(k):
                    return

    def _cut(self, clip: Clip, rates: tuple[int, ...]) -> Clip:
        """`clip` without what comes after the end. `rates`: sample rates of clip.sounds, Hz."""
        if self.end is None:
            return clip
        end = self.end

        def before(frames: Tensor | None, times: Tensor) -> tuple[Tensor | None, Tensor]:
            kept = times < end
            return None if frames is None else frames[kept], times[kept]

        frames, frame_times = before(clip.frames, clip.frame_times)

        def samples(waveform: Tensor | None, rate: int) -> Tensor | None:
            kept = None if waveform is None else waveform[: max(0, round((end - clip.audio_start) * rate))]
            return kept if kept is not None and len(kept) else None

        return replace(
            clip,
            frames=frames,
            frame_times=frame_times,
            views=tuple(type(view)(*before(view.frames, view.times)) for view in clip.views),
            waveform=samples(clip.waveform, clip.sample_rate),
            sounds=tuple(samples(sound, rate) for sound, rate in zip(clip.sounds, rates, strict=True)),
            duration=None if clip.duration is None else min(clip.duration, self.end),
        )


def as_piece(media: Path | ByteRange | Piece) -> Piece:
    """`media` as a piece: a whole file, unless it is one already."""
    return media if isinstance(media, Piece) else Piece(media)
