"""Runs several annotators on one decode of each file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.network import RATE
from mmattn.errors import MediaError
from mmattn.inference.annotators.base.interface import HOP_S, WINDOW_S, Annotation, Annotator, FileWindow, Findings
from mmattn.inference.predictor.speed import Speed
from mmattn.inference.reading.issues import IssueLog
from mmattn.inference.reading.piece import Piece, as_piece
from mmattn.inference.reading.until_error import until_error
from mmattn.inference.records.build import Record, failed_record, ok_record
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.video.tone_map import Hdr
from mmattn.media.read.windows.layout import Windows
from mmattn.media.read.windows.views import FrameView
from mmattn.types import MODALITIES, ByteRange, Clip, Frames

_NOISE_SIZE = (64, 64)  # of noise frames for a view without a size
_NO_FRAMES = Frames(None, torch.zeros(0, dtype=torch.float64))


class Annotators:
    """`records` yields one record for each file, in order. A file that cannot be read raises nothing."""

    def __init__(
        self,
        annotators: Sequence[Annotator],
        *,
        device: str = "cpu",
        speed: Speed | None = None,
        hdr: Hdr = "tonemap",
        deinterlace: bool = True,
    ) -> None:
        """`hdr`, `deinterlace`: see media's Renderer."""
        self.annotators = list(annotators)
        self.device, self.speed = device, speed or Speed()
        self._rendering: dict[str, Any] = {"hdr": hdr, "deinterlace": deinterlace}
        networks = [network for each in annotators for network in each.networks()]
        self.speed.prepare(networks, self._run_noise)

    def records(self, media: Iterable[Path | ByteRange | Piece], reader: IsolatedReader) -> Iterator[Record]:
        """Yield the record of each file or piece."""
        for piece in map(as_piece, media):
            try:
                yield self._record(piece, reader)
            except MediaError as error:
                yield failed_record(piece.name, error.reason, error.detail)

    def windows(self, fps: float | None = None) -> Windows:
        """The decode that serves all annotators, each with views of its own. `fps`: of the file, if it is known."""
        views = [view for each in self.annotators for view in views_of(each, fps)]
        names = ("fps", "size", "fit", "resample", "resize")
        first = {name: getattr(views[0], name) for name in names} if views else {"video": False}
        # Audio is always read: it shows where a file ends, and a file may hold nothing else.
        request = Request(end=1.0, audio_rate=RATE, measure_end=True, **first, **self._rendering)
        return Windows(WINDOW_S, HOP_S, request, tuple(views[1:]), self.audio_rates)

    @property
    def audio_rates(self) -> tuple[int, ...]:
        """The sample rates that are needed beside 16 kHz, Hz."""
        return tuple(sorted({each.audio_rate for each in self.annotators if each.needs_audio} - {RATE}))

    def _record(self, piece: Piece, reader: IsolatedReader) -> Record:
        """Raises MediaError if the first window cannot be read. A later window that fails ends the file."""
        fps = reader.survey(piece.media, "header").fps if any(each.own_rate for each in self.annotators) else None
        annotations = [each.begin(piece.start) for each in self.annotators]
        issues = IssueLog()
        for clip, is_last in until_error(piece.windows(reader, self.windows(fps)), issues.of_file):
            issues.add(clip, clip.span[0], _end(clip) if is_last else clip.span[0] + HOP_S)
            self.update(annotations, clip, clip.span[0] == piece.start, is_last, fps)
        with torch.inference_mode():
            found = [each.findings() for each in annotations]
        return self._joined(piece, found, issues.names())

    def update(
        self, annotations: Sequence[Annotation], clip: Clip, is_first: bool, is_last: bool, fps: float | None = None
    ) -> None:
        """Pass a window to all annotators, each with its own frames. `fps`: of the file, if it is known."""
        views = iter([Frames(clip.frames, clip.frame_times), *clip.views])
        waveforms = {RATE: clip.waveform, **dict(zip(self.audio_rates, clip.sounds, strict=True))}
        start = clip.span[0]
        with torch.inference_mode(), self.speed.running(self.device):
            for annotator, annotation in zip(self.annotators, annotations, strict=True):
                own_views = views_of(annotator, fps)
                frames, *beside = [next(views) for _ in own_views] or [_NO_FRAMES]
                rate = annotator.audio_rate
                window = FileWindow(
                    start=start,
                    own_end=start + HOP_S,
                    frames=frames,
                    waveform=from_window_start(clip, waveforms[rate], rate) if annotator.needs_audio else None,
                    duration=clip.duration,
                    is_first=is_first,
                    is_last=is_last,
                    fps=own_views[0].fps if own_views else None,
                    rate=rate,
                    beside=tuple(beside),
                    beside_fps=tuple(view.fps for view in own_views[1:]),
                )
                annotation.update(window)

    def _joined(self, piece: Piece, found: Sequence[Findings], issues: list[str]) -> Record:
        used = {each.name: list(one.used) for each, one in zip(self.annotators, found, strict=True)}
        parts: dict[str, list[Any]] = {"tags": []}
        for one in found:
            for name, values in one.parts.items():
                parts[name] = parts.get(name, []) + values
        modalities = {modality for each in used.values() for modality in each}
        return ok_record(
            piece.name,
            tags=sorted(parts.pop("tags"), key=lambda tag: -tag["score"]),
            parts=parts,
            used=[name for name in MODALITIES if name in modalities],
            annotators={"used": used, "versions": {each.name: each.version for each in self.annotators}},
            spans=[(piece.start, max([piece.start, *(each.end for each in found)]))],
            issues=issues,
        )

    def _run_noise(self) -> None:
        """Run the networks on one window of noise."""
        first_rate, *other_rates = [0.1 * torch.randn(round(WINDOW_S * rate)) for rate in (RATE, *self.audio_rates)]
        views = [_noise(view) for each in self.annotators for view in views_of(each, None)] or [_NO_FRAMES]
        first, *others = views
        clip = Clip(first.frames, first.times, first_rate, RATE, 0.0, "", (0.0, WINDOW_S))
        clip = replace(clip, views=tuple(others), sounds=tuple(other_rates))
        self.update([each.begin(0.0) for each in self.annotators], clip, True, True)


def views_of(annotator: Annotator, fps: float | None) -> list[FrameView]:
    """The annotator's own view, then those beside it. `fps`: of the file, if it is known."""
    views = [] if annotator.view is None else [annotator.view, *annotator.beside]
    slow = fps if annotator.own_rate and fps is not None and fps >= 1 else math.inf
    return [replace(view, fps=slow) if slow < view.fps else view for view in views]


def from_window_start(clip: Clip, waveform: Tensor | None, rate: int = RATE) -> Tensor | None:
    """A waveform of the clip from the start of the window on, silent until its audio starts."""
    if waveform is None:
        return None
    late = max(0, round((clip.audio_start - clip.span[0]) * rate))
    return torch.nn.functional.pad(waveform, (late, 0))


def _end(clip: Clip) -> float:
    """Where the file ends according to its last window, s."""
    return clip.span[1] if clip.duration is None else max(clip.span[0], min(clip.span[1], clip.duration))


def _noise(view: FrameView) -> Frames:
    count = max(1, round(view.fps * HOP_S))
    frames = torch.randint(0, 256, (count, 3, *(view.size or _NOISE_SIZE)), dtype=torch.uint8)
    return Frames(frames, torch.arange(count, dtype=torch.float64) / view.fps)
