"""Tags over time: a file is read in windows that slide by a step, and when a tag is there becomes segments.

The window of a step is of the trained length; what it says is said of the step around its middle. Memory does not
depend on the file's duration, but for what is found.

Shape legend: S windows, K tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.data.load.reading import ClipReader
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import Canvas, ClipSpec, Sample
from mmattn.errors import UsageError
from mmattn.inference.reading.piece import Piece
from mmattn.inference.records.build import Captions, Record, tag_records
from mmattn.inference.records.segments import Segments, until_error
from mmattn.media.read.request import Request
from mmattn.media.read.windows import Windows
from mmattn.metrics.tags import decisions
from mmattn.types import MODALITIES, Clip, Modality
from mmattn.weighting.captions import WeighedCaption
from mmattn.weighting.causal import SUBSETS, Subset
from mmattn.weighting.descriptive import MassMeter

LEAST_STEPS = 1000  # windows at any moment, at most


class Sliding:
    """How a file is read: windows of the trained clip every `step_s` s, pictures on `canvas`."""

    def __init__(self, clip: ClipSpec, step_s: float, canvas: Canvas) -> None:
        # The clip's seconds, but for what is no whole frame.
        self.window_s = clip.frame_count / clip.fps if clip.video else clip.seconds
        if not self.window_s / LEAST_STEPS <= step_s <= self.window_s:
            raise UsageError(
                f"span_step_s={step_s}: expected {self.window_s / LEAST_STEPS:g} up to {self.window_s:g} s, the length "
                "of the clips that the model was trained on"
            )
        self.clip = clip
        self.step_s = step_s
        self.canvas = canvas

    def read(self, piece: Piece, reader: ClipReader, issues: set[str]) -> Iterator[tuple[Clip, bool]]:
        """Each window, and whether it is the last. A later one that fails is an issue. Raises MediaError."""
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
            if (
                is_last and clip.span[0] == piece.start and "no_frames" in clip.issues
            ):  # a still, or over before the first frame
                clip = self.clip.read(piece.media, piece.start, piece.end, reader=reader, canvas=self.canvas)
            yield clip, is_last

    def bounds(self, clips: Sequence[Clip], begin: float, is_last: bool) -> list[float]:
        """What each of some windows in a row stands for: bounds[i] to bounds[i + 1] s. `begin`: of all."""
        starts = [clip.span[0] for clip in clips]
        middle = (self.window_s - self.step_s) / 2
        found = [start + middle if start > begin else begin for start in starts]
        end = starts[-1] + self.step_s + middle
        return [*found, max(found[-1], self._end(clips[-1])) if is_last else end]

    def _end(self, clip: Clip) -> float:
        """Where the file ends, as far as its last window knows, s."""
        reached = clip.span[0]
        if clip.frames is not None and len(clip.frame_times):
            reached = float(clip.frame_times[-1]) + 0.5 / self.clip.fps
        if clip.waveform is not None:
            reached = max(reached, clip.audio_start + len(clip.waveform) / clip.sample_rate)
        return min(reached if clip.duration is None else clip.duration, clip.span[0] + self.window_s)


class Timeline:
    """One file's answers, window by window. `thresholds` (K,): see thresholds_of."""

    def __init__(self, vocabulary: TagVocabulary, thresholds: Float[Tensor, " K"]) -> None:
        self.vocabulary = vocabulary
        self.thresholds = thresholds
        self.mass = MassMeter()
        self.captions = Captions()
        self.end = 0.0
        self._used: set[Modality] = set()
        self._segments = Segments(gap_s=1e-6)
        self._surest: dict[Subset, Tensor] = {s: torch.full((len(thresholds),), -1.0) for s in SUBSETS}

    def add(
        self,
        scores: Mapping[Subset, Float[Tensor, "S K"]],
        samples: Sequence[Sample],
        captions: Sequence[WeighedCaption | None],
        bounds: Sequence[float],
    ) -> None:
        """The next windows. One that holds neither picture nor sound says nothing."""
        seen = torch.stack([sample.frame_keep.any() for sample in samples])
        heard = torch.stack([sample.spectrogram_keep.any() for sample in samples])
        self._used |= {name for name, there in zip(MODALITIES, (seen, heard), strict=True) if there.any()}
        there = decisions(scores["both"], self.thresholds, self.vocabulary.groups()) & (seen | heard)[:, None]
        self._segments.add(scores["both"], there, bounds)
        self._keep_surest(scores, there)
        for i, caption in enumerate(captions):
            self.captions.add(bounds[i], bounds[i + 1], caption if seen[i] or heard[i] else None)
        self.end = bounds[-1]

    def _keep_surest(self, scores: Mapping[Subset, Tensor], there: Bool[Tensor, "S K"]) -> None:
        """Each tag's scores on all subsets at the moment when it was listed with the highest."""
        value, step = torch.where(there, scores["both"], -1.0).max(dim=0)
        better = value > self._surest["both"]
        for subset in SUBSETS:
            here = scores[subset].gather(0, step[None])[0]
            self._surest[subset] = torch.where(better, here, self._surest[subset])

    def tags(self) -> tuple[list[Record], Record | None]:
        """Each tag that was listed at some moment, as at its surest, and when; the mean split over them."""
        found = self._segments.best()
        return tag_records(self.vocabulary.names, self._surest, found, found)

    @property
    def used(self) -> list[Modality]:
        return [name for name in MODALITIES if name in self._used]
