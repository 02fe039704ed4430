"""Several annotators on one decode of each file: one record a file, whatever is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.yamnet import RATE
from mmattn.errors import MediaError
from mmattn.inference.annotators.base.interface import HOP_S, WINDOW_S, Annotation, Annotator, Findings, Window
from mmattn.inference.predictor.speed import Speed
from mmattn.inference.reading.issues import Noticed
from mmattn.inference.reading.piece import Piece, as_piece
from mmattn.inference.records.segments import until_error
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.picture.tone_map import Hdr
from mmattn.media.read.request import Request
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
        views = [view for each in self.annotators for view in views_of(each, fps)]
        names = ("fps", "size", "fit", "resample", "resize")
        shown = {name: getattr(views[0], name) for name in names} if views else {"video": False}
        # Sound is always read: it tells where a file ends, and that a file of sound alone is one.
        request = Request(end=1.0, audio_rate=RATE, measure_end=True, **shown, **self._look)
        return Windows(WINDOW_S, HOP_S, request, tuple(views[1:]), self.audio_rates)

    @property
    def audio_rates(self) -> tuple[int, ...]:
        """Of the sound that is asked for beside that at 16 kHz, Hz."""
        return tuple(sorted({each.audio_rate for each in self.annotators if each.needs_audio} - {RATE}))

    def _record(self, piece: Piece, reader: IsolatedReader) -> Record:
        """Raises MediaError unless a first window could be read; a later one that fails costs the rest."""
        told = reader.survey(piece.media, "header").fps if any(each.own_rate for each in self.annotators) else None
        at_work = [each.begin(piece.start) for each in self.annotators]
        noticed = Noticed()
        end = piece.start
        for clip, is_last in until_error(piece.windows(reader, self.windows(told)), noticed.others):
            noticed.add(clip, clip.span[0], _end(clip) if is_last else clip.span[0] + HOP_S)
            self.look(at_work, clip, clip.span[0] == piece.start, is_last, told)
        with torch.inference_mode():
            found = [each.findings() for each in at_work]
        return self._put_together(piece, found, max([end, *(each.end for each in found)]), noticed.names())

    def look(
        self, at_work: Sequence[Annotation], clip: Clip, is_first: bool, is_last: bool, fps: float | None = None
    ) -> None:
        """Show a window to all annotators, each its own frames. `fps`: of the file, where known."""
        views = iter([Frames(clip.frames, clip.frame_times), *clip.views])
        heard = {RATE: clip.waveform, **dict(zip(self.audio_rates, clip.sounds, strict=True))}
        with torch.inference_mode(), self.speed.running(self.device):
            for annotator, annotation in zip(self.annotators, at_work, strict=True):
                asked = views_of(annotator, fps)
                frames, *beside = [next(views) for _ in asked] or [_NOTHING]
                rate = annotator.audio_rate
                waveform = _placed(clip, heard[rate], rate) if annotator.needs_audio else None
                start, shown = clip.span[0], asked[0].fps if asked else None
                at = (start, start + HOP_S, frames, waveform, clip.duration, is_first, is_last)
                annotation.look(Window(*at, shown, rate, tuple(beside), tuple(view.fps for view in asked[1:])))

    def _put_together(self, piece: Piece, found: Sequence[Findings], end: float, issues: list[str]) -> Record:
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
            "issues": issues,
        }

    def _rehearse(self) -> None:
        """Run the networks on one window of noise."""
        wave, *waves = [0.1 * torch.randn(round(WINDOW_S * rate)) for rate in (RATE, *self.audio_rates)]
        clips = [_noise(view) for each in self.annotators for view in views_of(each, None)] or [_NOTHING]
        first, *others = clips
        span = (0.0, WINDOW_S)
        clip = Clip(first.frames, first.times, wave, RATE, 0.0, "", span, views=tuple(others), sounds=tuple(waves))
        self.look([each.begin(0.0) for each in self.annotators], clip, True, True)


def _end(clip: Clip) -> float:
    """Where the file ends, as far as its last window knows, s."""
    return clip.span[1] if clip.duration is None else max(clip.span[0], min(clip.span[1], clip.duration))


def views_of(annotator: Annotator, fps: float | None) -> list[FrameView]:
    """Its own, then those beside. `fps`: of the file, where known."""
    views = [] if annotator.view is None else [annotator.view, *annotator.beside]
    slow = fps if annotator.own_rate and fps is not None and fps >= 1 else math.inf
    return [replace(view, fps=slow) if slow < view.fps else view for view in views]


def _noise(view: FrameView) -> Frames:
    count = max(1, round(view.fps * HOP_S))
    frames = torch.randint(0, 256, (count, 3, *(view.size or _SIZE)), dtype=torch.uint8)
    return Frames(frames, torch.arange(count, dtype=torch.float64) / view.fps)


def _placed(clip: Clip, waveform: Tensor | None, rate: int = RATE) -> Tensor | None:
    """A sound of the clip from the window's start, silent until it begins."""
    if waveform is None:
        return None
    late = max(0, round((clip.audio_start - clip.span[0]) * rate))
    return torch.nn.functional.pad(waveform, (late, 0))
