"""Reads a file in windows that slide by a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmattn.data.load.reader import ClipReader
from mmattn.data.prepare.clips import Canvas, ClipSpec
from mmattn.errors import UsageError
from mmattn.inference.reading.piece import Piece
from mmattn.inference.reading.until_error import until_error
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows
from mmattn.types import Clip

MAX_OVERLAP = 1000  # windows that overlap at any time


class Sliding:
    """Reads windows of the trained clip's length every `step_s` seconds, with frames on `canvas`."""

    def __init__(self, clip: ClipSpec, step_s: float, canvas: Canvas) -> None:
        self.window_s = clip.frame_count / clip.fps if clip.video else clip.seconds  # a whole number of frames
        if not self.window_s / MAX_OVERLAP <= step_s <= self.window_s:
            raise UsageError(
                f"span_step_s={step_s}: expected {self.window_s / MAX_OVERLAP:g} to {self.window_s:g} s, the length "
                "of the clips that the model was trained on"
            )
        self.clip = clip
        self.step_s = step_s
        self.canvas = canvas

    def read(self, piece: Piece, reader: ClipReader, issues: set[str]) -> Iterator[tuple[Clip, bool]]:
        """Yield each window, and whether it is the last. A later window that fails is an issue. Raises MediaError."""
        request = Request(
            frames=self.clip.frame_count,
            end=self.window_s,
            size=self.canvas.size,
            fit=self.canvas.fit,
            resample=self.clip.resample,
            resize=self.canvas.resize,
            audio_rate=self.clip.sample_rate,
            video=self.clip.video,
            audio=self.clip.audio,
            hdr=self.clip.hdr,
            deinterlace=self.clip.deinterlace,
            downmix=self.clip.downmix,
        )
        windows = piece.windows(reader, Windows(self.window_s, self.step_s, request))
        for clip, is_last in until_error(windows, issues):
            is_only = is_last and clip.span[0] == piece.start
            if is_only and "no_frames" in clip.issues:  # a still, or a file that ends before its first frame is due
                clip = self.clip.read(piece.media, piece.start, piece.end, reader=reader, canvas=self.canvas)
            yield clip, is_last

    def bounds(self, clips: Sequence[Clip], begin: float, is_last: bool) -> list[float]:
        """The times of consecutive windows: window i covers bounds[i] to bounds[i + 1] s, the step around its middle.

        `begin`: of the first window of the file, s.
        """
        starts = [clip.span[0] for clip in clips]
        middle = (self.window_s - self.step_s) / 2
        found = [start + middle if start > begin else begin for start in starts]
        end = starts[-1] + self.step_s + middle
        return [*found, max(found[-1], self._end(clips[-1])) if is_last else end]

    def _end(self, clip: Clip) -> float:
        """Where the file ends according to its last window, s."""
        end = clip.span[0]
        if clip.frames is not None and len(clip.frame_times):
            end = float(clip.frame_times[-1]) + 0.5 / self.clip.fps
        if clip.waveform is not None:
            end = max(end, clip.audio_start + len(clip.waveform) / clip.sample_rate)
        return min(end if clip.duration is None else clip.duration, clip.span[0] + self.window_s)
