"""A trained model and files become records: tags and captions, and what each owes to sound and to picture.

A file longer than the trained clip is read in spans, evenly spread, and its scores are the mean over them; or in spans
that slide, or shot by shot, and its tags have segments (see timeline, shots).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.data.load.dataset import stack_samples
from mmattn.data.load.reading import ClipReader
from mmattn.data.prepare.clips import Reader, Sample
from mmattn.data.prepare.views import Views
from mmattn.errors import MediaError, UsageError
from mmattn.inference.predictor.speed import Speed
from mmattn.inference.predictor.timeline import Sliding, Timeline
from mmattn.inference.reading.issues import Noticed
from mmattn.inference.reading.piece import Piece, as_piece
from mmattn.inference.records.build import Captions, Record, attention_mass, tag_records, thresholds_of
from mmattn.inference.records.result import Result
from mmattn.inference.shots.cuts import ShotReader
from mmattn.metrics.tags import decisions
from mmattn.tasks.captioning.interface import Captioner
from mmattn.types import MODALITIES, ByteRange, Clip
from mmattn.weighting.captions import WeighedCaption, captions_with_weights
from mmattn.weighting.causal import SUBSETS, Subset, scores_on, subset_fusions
from mmattn.weighting.descriptive import MassMeter

PLAIN = Views()
FULL = Speed()


@dataclass(frozen=True)
class _Result:
    """What the model says of a span, or of one view: scores (K,) on each subset of modalities, mass, caption."""

    scores: dict[Subset, Tensor]
    mass: MassMeter
    caption: WeighedCaption | None


@dataclass(frozen=True)
class _File:
    """A file that was read: its prepared spans and what was noticed."""

    path: str
    samples: list[list[Sample]]  # the views of each span
    spans: list[tuple[float, float]]
    issues: list[str]

    @property
    def named(self) -> Iterator[tuple[str, list[Sample]]]:
        return ((_name(self.path, start), views) for (start, _), views in zip(self.spans, self.samples, strict=True))


class Predictor:
    """`predictor("clip.mp4")` gives the Result of one file; `records` those of many, as plain data.

    Raises nothing for a bad file.
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
        """`threshold`: of tags that stand alone; None: each tag's own, as it was calibrated, 0.5 where it was not.

        A longer file is read in up to `windows` spans, or, with `span_step_s`, in spans that slide by so much, or with
        `shots` in spans that cross no cut. With these two each tag has its segments in time, and `reader` is a
        ClipReader or None. Each span's scores are the means over its `views`, its caption is the first's. Raises
        UsageError for a step that is longer than a span, for both ways at once, and for what cannot be compiled.
        """
        self.model = checkpoint.model.to(device)
        self.vocabulary = checkpoint.vocabulary
        self.clip = checkpoint.clip
        self.device = device
        self.calibrated = checkpoint.thresholds
        self.threshold = threshold
        self.views, self.canvas = views, views.canvas(checkpoint.clip)
        self.over_time = self._over_time_by(span_step_s, shots)
        if self.over_time and not (reader is None or isinstance(reader, ClipReader)):
            raise ValueError("span_step_s and shots need a ClipReader, or None to read in this process")
        self.windows = windows
        self.batch_size = batch_size
        self.reader = reader
        self.speed = speed
        speed.prepare(self.model.children(), lambda: self.rehearse(2))

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """From a run directory or its model.safetensors."""
        return cls(load_model(Path(run)))

    def __call__(self, path: str | Path) -> Result:
        return Result.from_dict(next(self.records([Path(path)])))

    def rehearse(self, spans: int) -> None:
        """Run the model on a batch of so many spans of noise."""
        clip, noise = self.clip, torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (clip.frame_count, 3, clip.height, clip.width), generator=noise).to(torch.uint8)
        wave = 0.1 * torch.randn(clip.samples, generator=noise)
        times = torch.tensor(clip.times(0.0, clip.seconds), dtype=torch.float64)
        sample = clip.prepare(Clip(frames, times, wave, clip.sample_rate, 0.0, "", (0.0, clip.seconds)))
        for _ in self._batch([("", sample)] * spans, self.model.captions):
            pass

    def records(self, media: Iterable[Path | ByteRange | Piece]) -> Iterator[Record]:
        """One record a file or part of one, in order.

        Spans of several files share a batch, while a ClipReader reads those to come.
        With `span_step_s` or `shots` one file after another.
        """
        pieces = map(as_piece, media)
        if self.over_time is not None:
            reader = self.reader if isinstance(self.reader, ClipReader) else ClipReader(isolated=False, threads=1)
            yield from (self._over_time(piece, self.over_time, reader) for piece in pieces)
            return
        if isinstance(self.reader, ClipReader):
            read = self.reader.map(self._read, pieces, ahead=self.batch_size)  # the next batch, while this one is run
        else:
            read = map(self._read, pieces)
        while files := list(itertools.islice(read, self.batch_size)):
            results = self._say(span for file in files if isinstance(file, _File) for span in file.named)
            for file in files:
                if isinstance(file, _File):
                    yield self._record(file, list(itertools.islice(results, len(file.samples))))
                else:
                    yield _failed(file)

    def _read(self, piece: Piece) -> _File | MediaError:
        """The spans that could be read. A later span that fails, or holds nothing, costs itself and not the file."""
        noticed = Noticed()
        try:
            clips = [self._clip(piece, piece.start, measure_end=True)]
        except MediaError as error:
            return error
        for start in self._later_starts(clips[0], piece):
            try:
                clips.append(self._clip(piece, start))
            except MediaError as error:
                noticed.others.add(f"span_{error.reason}")
        samples = [self.views.samples(clip, self.clip) for clip in clips]
        real = [i for i, (one, *_) in enumerate(samples) if one.frame_keep.any() or one.spectrogram_keep.any()]
        kept = real or [0]
        for clip in clips:
            noticed.add(clip, *clip.span)
        return _File(piece.name, [samples[i] for i in kept], [clips[i].span for i in kept], noticed.names())

    def _clip(self, piece: Piece, start: float, measure_end: bool = False) -> Clip:
        return self.clip.read(
            piece.media, start, piece.end, reader=self.reader, canvas=self.canvas, measure_end=measure_end
        )

    def _later_starts(self, first: Clip, piece: Piece) -> list[float]:
        """Where further spans of a long file start: what covers it, at most `windows` in all, the last at its end.

        A rest of less than a tenth of a span is left out: headers count the encoder's padding.
        """
        seconds = self.clip.seconds
        if first.duration is None:
            return []
        length = (first.duration if piece.end is None else min(first.duration, piece.end)) - piece.start
        count = min(self.windows, math.ceil(length / seconds - 0.1))
        return [piece.start + (length - seconds) / (count - 1) * i for i in range(1, count)]

    def _say(self, spans: Iterable[tuple[str, list[Sample]]]) -> Iterator[_Result]:
        """One result for each span, given with its name: the mean over its views, and the caption of the first."""
        spans = list(spans)
        firsts = self._run([(name, first) for name, (first, *_) in spans], self.model.captions)
        others = self._run([(name, view) for name, (_, *views) in spans for view in views], None)
        return (_mean([next(firsts), *itertools.islice(others, len(views) - 1)]) for _, views in spans)

    def _run(self, samples: list[tuple[str, Sample]], captioner: Captioner | None) -> Iterator[_Result]:
        for first in range(0, len(samples), self.batch_size):
            yield from self._batch(samples[first : first + self.batch_size], captioner)

    def _batch(self, samples: list[tuple[str, Sample]], captioner: Captioner | None) -> Iterator[_Result]:
        names = [name for name, _ in samples]
        batch = stack_samples([sample for _, sample in samples], names, self.clip).to(self.device)
        with torch.inference_mode(), self.speed.running(self.device):
            video, audio = self.model.encode(batch)
            fused = self.model.fuse(video, audio, frozenset({"mass"}))
            fusions = subset_fusions(self.model, video, audio, fused)
            scores = scores_on(self.model, fusions)
            captions = captions_with_weights(captioner, fusions, ids=names) if captioner else [None] * len(samples)
        for i in range(len(samples)):
            meter = MassMeter()
            meter.update(layer.one(i) for layer in fused.stats)
            yield _Result({subset: scores[subset][i].float().cpu() for subset in SUBSETS}, meter, captions[i])

    def _record(self, file: _File, results: list[_Result]) -> Record:
        scores: dict[Subset, Tensor] = {s: torch.stack([one.scores[s] for one in results]).mean(0) for s in SUBSETS}
        chosen = decisions(scores["both"][None], self.thresholds, self.vocabulary.groups())[0]
        used = {
            "video": any(bool(sample.frame_keep.any()) for sample, *_ in file.samples),
            "audio": any(bool(sample.spectrogram_keep.any()) for sample, *_ in file.samples),
        }
        said = any(used.values())  # of nothing seen and nothing heard there is nothing to say
        tags, mean = tag_records(self.vocabulary.names, scores, chosen.nonzero()[:, 0].tolist() if said else [])
        captions = Captions()
        for span, result in sorted(zip(file.spans, results, strict=True), key=lambda pair: pair[0]):
            captions.add(*span, result.caption if said else None)
        return {
            "path": file.path,
            "status": "ok",
            "tags": tags,
            **({"captions": captions.records()} if self.model.captions else {}),
            "modality": {
                "used": [name for name in MODALITIES if used[name]],
                "shapley": mean,
                "attention": attention_mass(one.mass for one in results),
            },
            "spans": [[round(start, 3), round(end, 3)] for start, end in file.spans],
            "issues": file.issues,
        }

    def _over_time_by(self, span_step_s: float | None, shots: bool) -> Sliding | ShotReader | None:
        if shots:
            if span_step_s is not None:
                raise UsageError("shots=true and span_step_s are two ways to read a file; choose one")
            return ShotReader(self.clip, self.canvas)
        return None if span_step_s is None else Sliding(self.clip, span_step_s, self.canvas)

    def _over_time(self, piece: Piece, by: Sliding | ShotReader, reader: ClipReader) -> Record:
        """Raises nothing for a bad file: the record says what is wrong."""
        noticed = Noticed()
        timeline = Timeline(self.vocabulary, self.thresholds)
        windows = by.read(piece, reader, noticed.others)
        try:
            while part := list(itertools.islice(windows, self.batch_size)):
                clips = [clip for clip, _ in part]
                bounds = by.bounds(clips, piece.start, part[-1][1])
                for i, clip in enumerate(clips):
                    noticed.add(clip, bounds[i], bounds[i + 1])
                self.add(timeline, clips, bounds, piece.name)
        except MediaError as error:
            return _failed(error)
        finally:  # also if the model fails: the reader is free for the next file
            windows.close()  # type: ignore[attr-defined]  # a generator
        tags, mean = timeline.tags()
        return {
            "path": piece.name,
            "status": "ok",
            "tags": tags,
            **({"captions": timeline.captions.records()} if self.model.captions else {}),
            "modality": {"used": timeline.used, "shapley": mean, "attention": attention_mass([timeline.mass])},
            "spans": [[round(piece.start, 3), round(timeline.end, 3)]],
            "issues": noticed.names(),
        }

    def add(self, timeline: Timeline, clips: Sequence[Clip], bounds: Sequence[float], name: str) -> None:
        """Answer the next spans of a file into its timeline; see Timeline.add for `bounds`."""
        samples = [self.views.samples(clip, self.clip) for clip in clips]
        names = [_name(name, clip.span[0]) for clip in clips]
        results = list(self._say(zip(names, samples, strict=True)))
        scores: dict[Subset, Tensor] = {s: torch.stack([one.scores[s] for one in results]) for s in SUBSETS}
        timeline.add(scores, [views[0] for views in samples], [one.caption for one in results], bounds)
        for one in results:
            timeline.mass.merge(one.mass)

    @property
    def thresholds(self) -> Tensor:
        """(K,) of each tag; see thresholds_of."""
        return thresholds_of(self.vocabulary, self.calibrated, self.threshold)


def _name(path: str, start: float) -> str:
    """What the draws of a sampled caption depend on: not on the batch, nor on where the file's folder lies."""
    return f"{path.rpartition('/')[2]}@{start:.3f}"


def _mean(views: list[_Result]) -> _Result:
    if len(views) == 1:
        return views[0]
    mass = MassMeter()
    for view in views:
        mass.merge(view.mass)
    scores: dict[Subset, Tensor] = {s: torch.stack([view.scores[s] for view in views]).mean(dim=0) for s in SUBSETS}
    return _Result(scores, mass, views[0].caption)


def _failed(error: MediaError) -> Record:
    return {"path": error.path, "status": "failed", "reason": error.reason, "detail": error.detail}
