"""Resampled segments become one waveform: each piece at its time, gaps filled with zeros, overlaps cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.media.read.audio.segment import AudioSegment
from mmattn.media.read.audio.stamps import Level

_BRIDGED_S = 0.002  # a gap this short is a step of a drifting clock: it is bridged by a line, not by silence


@dataclass(frozen=True)
class AudioPiece:
    """Resampled samples that start at sample `at` of the output; they cover `time` to `end` s of the clip."""

    samples: np.ndarray
    at: int
    time: float
    end: float


def pieces_of(segment: AudioSegment, levels: Sequence[Level], start: float, rate: int) -> list[AudioPiece]:
    """The segment at `rate` Hz, cut where its run has a gap or an overlap; the output begins at `start` s."""
    run, first, last = segment.run, segment.first, segment.first + segment.samples
    made = np.concatenate(segment.out) if len(segment.out) != 1 else segment.out[0]
    pieces = []
    for level, after in zip(levels, [*levels[1:], None], strict=True):
        low, high = max(level.first, first), last if after is None else min(after.first, last)
        if low >= high:
            continue
        begin = math.ceil((low - first) * rate / run.rate)
        stop = None if high == last else math.ceil((high - first) * rate / run.rate)
        at = round((level.offset + first / run.rate - start) * rate) + begin
        time, end = level.offset + low / run.rate, level.offset + high / run.rate
        pieces.append(AudioPiece(made[begin:stop], at, time, end))
    return pieces


def paste(out: np.ndarray, pieces: Sequence[AudioPiece], start: float, rate: int) -> set[str]:
    """Write each piece into `out` (N,) at its time; where two overlap, the first one counts. Returns the issues."""
    issues: set[str] = set()
    filled, reached, slack = 0, pieces[0].time, 2 / rate
    for number, piece in enumerate(pieces):
        inside = number and start < max(piece.time, reached) and min(piece.time, reached) < start + len(out) / rate
        if inside and abs(piece.time - reached) > slack:
            issues.add("gap" if piece.time > reached else "overlap")
        low, high = max(piece.at, filled, 0), min(piece.at + len(piece.samples), len(out))
        if high > low:
            if 0 < filled < low <= filled + _BRIDGED_S * rate:
                ends = out[filled - 1], piece.samples[low - piece.at]
                out[filled - 1 : low + 1] = np.linspace(*ends, low - filled + 2)
            out[low:high] = piece.samples[low - piece.at : high - piece.at]
        filled, reached = max(filled, high), max(reached, piece.end)
    return issues
