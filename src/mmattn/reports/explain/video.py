"""The explained file as a video: its own pictures and sound, with what its tags depend on drawn into each frame.

Frame k shows the file at k / fps: its picture with the heat over it, the weightings over time with a playhead, and the
spectrogram with the heat over it, all of that instant.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from mmattn.data.prepare.clips import ClipSpec
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.replay import even_size, replay
from mmattn.media.survey.probe import probe
from mmattn.media.write.video import writing_video
from mmattn.reports.explain.canvas import LINE, WIDTH, FrameCanvas, Layout
from mmattn.reports.explain.explained import Explained

MAX_FPS, SOUND_HZ = 30, 48000
STILLS = 6


@dataclass(frozen=True)
class Still:
    """One moment of the video, for a page, as JPEG."""

    time: float
    frame: bytes


def write_overlay(
    found: Explained, spec: ClipSpec, reader: IsolatedReader, path: Path, height: int, attention: bool = False
) -> list[Still]:
    """Write the video; returns a few moments of it. `attention`: the heat is attention rollout, not causal.

    Raises MediaError where the file can no longer be read.
    """
    streams = probe(found.path, follow_symlinks=True, deadline_s=60.0)
    fps = Fraction(min(MAX_FPS, max(8.0, streams.video.fps or 25.0)) if streams.video else 25).limit_denominator(1001)
    size = streams.video and even_size(streams.video.shown_size, height)
    tall, wide = size or (0, WIDTH)
    layout = Layout(max(WIDTH, wide), tall, LINE * (len(found.tags) + 1))
    end = found.windows[-1].end
    canvas = FrameCanvas(found, layout, spec, attention)
    rate = SOUND_HZ if found.has("audio") or streams.audio is not None else None
    moments = [end * (k + 0.5) / STILLS for k in range(STILLS)]
    stills: list[Still] = []
    with writing_video(path, (layout.height, layout.width), fps, rate, options={"crf": "20"}) as writer:
        for piece in replay(found.path, reader.read, fps, end, size, rate):
            for k, time in enumerate(piece.times):
                picture = None if piece.frames is None or k >= len(piece.frames) else piece.frames[k]
                pixels = canvas.draw(time, picture)
                writer.show(pixels)
                if len(stills) < STILLS and time >= moments[len(stills)]:
                    stills.append(Still(time, _jpeg(pixels)))
            if piece.samples is not None:
                writer.sound(piece.samples)
    return stills


def _jpeg(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="JPEG", quality=80)
    return data.getvalue()
