"""Turns files into records with a trained model: tags and captions, and the share of each modality in them.

A file longer than the trained clip is read in spans that are spread evenly, and its scores are their mean. Or it is
read in spans that slide (see sliding) or shot by shot (see shots), and its tags have segments in time (see timeline).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.data.load.reader import ClipReader
from mmattn.data.prepare.clips import Reader
from mmattn.data.prepare.views import Views
from mmattn.errors import MediaError, UsageError
from mmattn.inference.predictor.file_spans import FileSpans, SpanReader, span_name
from mmattn.inference.predictor.sliding import Sliding
from mmattn.inference.predictor.span_model import SpanModel, SpanOutput, stack_scores
from mmattn.inference.predictor.speed import Speed
from mmattn.inference.predictor.timeline import Timeline
from mmattn.inference.reading.issues import IssueLog
from mmattn.inference.reading.piece import Piece, as_piece
from mmattn.inference.records.build import Record, failed_record, ok_record
from mmattn.inference.records.caption_timeline import CaptionTimeline
from mmattn.inference.records.measures import attention_mass, tag_records, thresholds_of
from mmattn.inference.records.result import Result
from mmattn.inference.shots.shot_reader import ShotReader
from mmattn.metrics.tags import decisions
from mmattn.types import MODALITIES, ByteRange, Clip
from mmattn.weighting.causal import Subset

PLAIN = Views()
FULL = Speed()


class Predictor:
    """`predictor("clip.mp4")` returns the Result of one file; `records` yields the records of many.

    A file that cannot be read raises nothing; its record says what is wrong.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        threshold: float | None = None,
        windows: int = 8,
        span_step_s: float | None = None,
        shots: bool = False,
        views: Views = PLAIN,
        batch_size: int = 16,
        speed: Speed = FULL,
        reader: Reader | ClipReader | None = None,
    ) -> None:
        """`threshold`: from which tags are listed; None: each tag's calibrated one, 0.5 where it has none.

        A longer file is read in up to `windows` spans; with `span_step_s` in spans that slide by it, with `shots` in
        spans that cross no cut. With these two tags have segments, and `reader` is a ClipReader or None. The scores of
        a span are the means over its `views`, its caption is that of the first. Raises UsageError for a step longer
        than a span, for both ways at once, and for a model that cannot be compiled.
        """
        self.model = checkpoint.model.to(device)
        self.vocabulary = checkpoint.vocabulary
        self.clip = checkpoint.clip
        self.calibrated = checkpoint.thresholds
        self.threshold = threshold
        self.views, self.canvas = views, views.canvas(checkpoint.clip)
        self.over_time = self._way_over_time(span_step_s, shots)
        if self.over_time and not (reader is None or isinstance(reader, ClipReader)):
            raise ValueError("span_step_s and shots need a ClipReader, or None to read in this process")
        self.reader = reader
        self._spans = SpanReader(self.clip, views, self.canvas, windows, reader)
        self._runner = SpanModel(self.model, self.clip, device, speed, batch_size)
        speed.prepare(self.model.children(), lambda: self.run_noise(2))

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """Load a run directory, or its model.safetensors."""
        return cls(load_model(Path(run)))

    def __call__(self, path: str | Path) -> Result:
        """What the model finds in one file."""
        return Result.from_dict(next(self.records([Path(path)])))

    def _way_over_time(self, span_step_s: float | None, shots: bool) -> Sliding | ShotReader | None:
        if shots:
            if span_step_s is not None:
                raise UsageError("shots=true and span_step_s are two ways to read a file; choose one")
            return ShotReader(self.clip, self.canvas)
        return None if span_step_s is None else Sliding(self.clip, span_step_s, self.canvas)

    @property
    def batch_size(self) -> int:
        """How many spans the model gets at once."""
        return self._runner.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._runner.batch_size = size

    @property
    def thresholds(self) -> Tensor:
        """(K,) the score from which each tag is listed."""
        return thresholds_of(self.vocabulary, self.calibrated, self.threshold)

    def run_noise(self, spans: int) -> None:
        """Run the model on a batch of `spans` spans of noise."""
        self._runner.run_noise(spans)

    def records(self, media: Iterable[Path | ByteRange | Piece]) -> Iterator[Record]:
        """Yield one record for each file or piece, in order.

        Spans of several files share a batch while a ClipReader reads the next ones. With `span_step_s` or `shots` files
        are processed one after another.
        """
        pieces = map(as_piece, media)
        if self.over_time is not None:
            reader = self.reader if isinstance(self.reader, ClipReader) else ClipReader(isolated=False, threads=1)
            yield from (self._record_over_time(piece, self.over_time, reader) for piece in pieces)
            return
        if isinstance(self.reader, ClipReader):
            read = self.reader.map(self._spans.read, pieces, ahead=self.batch_size)  # the next batch, during this one
        else:
            read = map(self._spans.read, pieces)
        while files := list(itertools.islice(read, self.batch_size)):
            outputs = self._runner.outputs(span for file in files if isinstance(file, FileSpans) for span in file.named)
            for file in files:
                if isinstance(file, FileSpans):
                    yield self._record(file, list(itertools.islice(outputs, len(file.samples))))
                else:
                    yield failed_record(file.path, file.reason, file.detail)

    def _record(self, file: FileSpans, outputs: list[SpanOutput]) -> Record:
        scores: dict[Subset, Tensor] = {subset: rows.mean(0) for subset, rows in stack_scores(outputs).items()}
        chosen = decisions(scores["both"][None], self.thresholds, self.vocabulary.groups())[0]
        has = {
            "video": any(bool(sample.frame_keep.any()) for sample, *_ in file.samples),
            "audio": any(bool(sample.spectrogram_keep.any()) for sample, *_ in file.samples),
        }
        is_empty = not any(has.values())  # an empty file gets no tag and no caption
        tags, mean = tag_records(self.vocabulary.names, scores, [] if is_empty else chosen.nonzero()[:, 0].tolist())
        captions = CaptionTimeline()
        for span, output in sorted(zip(file.spans, outputs, strict=True), key=lambda pair: pair[0]):
            captions.add(*span, None if is_empty else output.caption)
        return ok_record(
            file.path,
            tags=tags,
            parts={"captions": captions.records()} if self.model.captions else {},
            used=[name for name in MODALITIES if has[name]],
            shapley=mean,
            attention=attention_mass(one.mass for one in outputs),
            spans=file.spans,
            issues=file.issues,
        )

    def _record_over_time(self, piece: Piece, by: Sliding | ShotReader, reader: ClipReader) -> Record:
        issues = IssueLog()
        timeline = Timeline(self.vocabulary, self.thresholds)
        windows = by.read(piece, reader, issues.of_file)
        try:
            while part := list(itertools.islice(windows, self.batch_size)):
                clips = [clip for clip, _ in part]
                bounds = by.bounds(clips, piece.start, part[-1][1])
                for i, clip in enumerate(clips):
                    issues.add(clip, bounds[i], bounds[i + 1])
                self.add(timeline, clips, bounds, piece.name)
        except MediaError as error:
            return failed_record(error.path, error.reason, error.detail)
        finally:  # also if the model fails, so that the reader is free for the next file
            windows.close()  # type: ignore[attr-defined]  # a generator
        tags, mean = timeline.tags()
        return ok_record(
            piece.name,
            tags=tags,
            parts={"captions": timeline.captions.records()} if self.model.captions else {},
            used=timeline.used,
            shapley=mean,
            attention=attention_mass([timeline.mass]),
            spans=[(piece.start, timeline.end)],
            issues=issues.names(),
        )

    def add(self, timeline: Timeline, clips: Sequence[Clip], bounds: Sequence[float], name: str) -> None:
        """Run the model on the next spans of a file and add them to its timeline; see Timeline.add for `bounds`."""
        samples = [self.views.samples(clip, self.clip) for clip in clips]
        names = [span_name(name, clip.span[0]) for clip in clips]
        outputs = list(self._runner.outputs(zip(names, samples, strict=True)))
        first_views = [views[0] for views in samples]
        timeline.add(stack_scores(outputs), first_views, [one.caption for one in outputs], bounds)
        for one in outputs:
            timeline.mass.merge(one.mass)
