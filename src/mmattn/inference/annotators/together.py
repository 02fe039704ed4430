"""Several annotators on one decode of each file: one record a file, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.yamnet import RATE
from mmattn.errors import MediaError
from mmattn.inference.annotators.interface import HOP_S, WINDOW_S, Annotation, Annotator, Findings, Window
from mmattn.inference.predictor.piece import Piece, as_piece
from mmattn.inference.predictor.segments import until_error
from mmattn.inference.predictor.speed import Speed
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.request import Request
from mmattn.media.read.tone_map import Hdr
from mmattn.media.read.views import FrameView
from mmattn.media.read.windows import Windows
from mmattn.types import MODALITIES, ByteRange, Clip, Frames

Record = dict[str, Any]
_SIZE = (64, 64)  # of a picture that nobody asked for, where a rehearsal needs one
_NOTHING = Frames(None, torch.zeros(0, dtype=torch.float64))


class Annotators:
    """`records` gives one record a file, in order. Raises nothing for a bad file."""

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
        self._look: dict[str, Any] = {"hdr": hdr, "deinterlace": deinterlace}
        networks = [network for each in annotators for network in each.networks()]
        self.speed.prepare(networks, self._rehearse)

    def records(self, media: Iterable[Path | ByteRange | Piece], reader: IsolatedReader) -> Iterator[Record]:
        for piece in map(as_piece, media):
            try:
                yield self._record(piece, reader)
            except MediaError as error:
                yield {"path": piece.name, "status": "failed", "reason": error.reason, "detail": error.detail}

    def windows(self, fps: float | None = None) -> Windows:
        """The one decode that serves all: each annotator's frames are a view of it. `fps`: of the file, where known."""
        views = [view for each in self.annotators if (view := view_of(each, fps))]
        shown = {"video": False} if not views else {"fps": views[0].fps, "size": views[0].size, "fit": views[0].fit}
        # Sound is always read: it tells where a file ends, and that a file of sound alone is one.
        request = Request(end=1.0, audio_rate=RATE, measure_end=True, **shown, **self._look)
        return Windows(WINDOW_S, HOP_S, request, tuple(views[1:]))

    def _record(self, piece: Piece, reader: IsolatedReader) -> Record:
        """Raises MediaError unless a first window could be read; a later one that fails costs the rest."""
        told = reader.survey(piece.media, "header").fps if any(each.own_rate for each in self.annotators) else None
        at_work = [each.begin(piece.start) for each in self.annotators]
        issues: set[str] = set()
        end = piece.start
        for clip, is_last in until_error(piece.windows(reader, self.windows(told)), issues):
            issues.update(clip.issues)
            self.look(at_work, clip, clip.span[0] == piece.start, is_last, told)
        with torch.inference_mode():
            found = [each.findings() for each in at_work]
        return self._put_together(piece, found, max([end, *(each.end for each in found)]), issues)

    def look(
        self, at_work: Sequence[Annotation], clip: Clip, is_first: bool, is_last: bool, fps: float | None = None
    ) -> None:
        """Show a window to all annotators, each its own frames. `fps`: of the file, where known."""
        views = iter([Frames(clip.frames, clip.frame_times), *clip.views])
        waveform = _placed(clip)
        with torch.inference_mode(), self.speed.running(self.device):
            for annotator, annotation in zip(self.annotators, at_work, strict=True):
                frames = _NOTHING if annotator.view is None else next(views)
                heard = waveform if annotator.needs_audio else None
                start, view = clip.span[0], view_of(annotator, fps)
                rate = None if view is None else view.fps
                annotation.look(Window(start, start + HOP_S, frames, heard, clip.duration, is_first, is_last, rate))

    def _put_together(self, piece: Piece, found: Sequence[Findings], end: float, issues: set[str]) -> Record:
        used = {each.name: list(one.used) for each, one in zip(self.annotators, found, strict=True)}
        parts: dict[str, list[Any]] = {"tags": []}
        for one in found:
            for name, values in one.parts.items():
                parts[name] = parts.get(name, []) + values
        streams = {stream for each in used.values() for stream in each}
        return {
            "path": piece.name,
            "status": "ok",
            **parts,
            "tags": sorted(parts["tags"], key=lambda tag: -tag["score"]),
            "modality": {"used": [name for name in MODALITIES if name in streams], "shapley": None, "attention": None},
            "used": used,
            "versions": {each.name: each.version for each in self.annotators},
            "spans": [[round(piece.start, 3), round(end, 3)]],
            "issues": sorted(issues),
        }

    def _rehearse(self) -> None:
        """Run the networks on one window of noise."""
        wave = 0.1 * torch.randn(round(WINDOW_S * RATE))
        clips = [_noise(view) for each in self.annotators if (view := each.view)] or [_NOTHING]
        first, *others = clips
        span = (0.0, WINDOW_S)
        clip = Clip(first.frames, first.times, wave, RATE, 0.0, "", span, views=tuple(others))
        self.look([each.begin(0.0) for each in self.annotators], clip, True, True)


def view_of(annotator: Annotator, fps: float | None) -> FrameView | None:
    view = annotator.view
    if view is None or not annotator.own_rate or fps is None or not 1 <= fps < view.fps:
        return view
    return replace(view, fps=fps)


def _noise(view: FrameView) -> Frames:
    count = max(1, round(view.fps * HOP_S))
    frames = torch.randint(0, 256, (count, 3, *(view.size or _SIZE)), dtype=torch.uint8)
    return Frames(frames, torch.arange(count, dtype=torch.float64) / view.fps)


def _placed(clip: Clip) -> Tensor | None:
    """The sound from the window's start, silent until it begins."""
    if clip.waveform is None:
        return None
    late = max(0, round((clip.audio_start - clip.span[0]) * RATE))
    return torch.nn.functional.pad(clip.waveform, (late, 0))
