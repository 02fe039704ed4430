"""Rows become samples and batches. An unreadable clip is not replaced: its place is marked as not real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch.utils.data import Dataset

from mmattn.data.load.cache import FAILED, ClipCache
from mmattn.data.load.reader import ClipReader
from mmattn.data.load.sampler import Draw
from mmattn.data.manifest.labels import NO_SCORES, TagVocabulary
from mmattn.data.manifest.rows import Row
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import ClipSpec, PaddedClip, Sample
from mmattn.data.prepare.keys import Key
from mmattn.data.prepare.views import ClipView
from mmattn.errors import MediaError
from mmattn.types import Batch, Clip

Span = Literal["first", "center", "random"]
SPANS: tuple[Span, ...] = get_args(Span)


@dataclass(frozen=True)
class Labelled:
    """One clip with its target. `real` False: it cannot be read."""

    id: str
    sample: Sample
    target: torch.Tensor
    real: bool = True
    captions: tuple[str, ...] = ()


class ClipDataset(Dataset[Labelled]):
    """`dataset[(epoch, index)]` -> Labelled.

    `span`: which seconds of a longer row are used: the "first", the "center", or "random" ones, keyed by (seed, epoch,
    index). `soft`: targets are the tags' scores, where rows have them. `view`: one view of one span instead. Clips are
    stored in `cache` when they are first read, in the form of its template; for random spans and views it must have no
    places.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        spec: ClipSpec,
        vocabulary: TagVocabulary,
        reader: ClipReader,
        cache: ClipCache[PaddedClip | Sample],
        *,
        augment: Augment | None = None,
        seed: int = 0,
        span: Span = "first",
        view: ClipView | None = None,
        soft: bool = False,
    ) -> None:
        self.rows = rows
        self.spec = spec
        self.vocabulary = vocabulary
        self.reader = reader
        self.cache = cache
        self.augment = augment
        self.seed = seed
        self.span = span
        self.view = view
        self.soft = soft
        self._found: list[tuple[str, MediaError]] = []  # unreadable clips and why, until a batch reports them
        self._tried: list[tuple[int, bool]] = []  # rows whose files were read, and whether they could be

    @property
    def ids(self) -> list[str]:
        """The ids of the rows."""
        return [row.id for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, draws: Sequence[Draw]) -> list[Labelled]:
        """A batch, read by several threads."""
        return list(self.reader.map(self.__getitem__, draws))

    def __getitem__(self, draw: Draw) -> Labelled:
        """The clip of one draw, augmented if this dataset augments."""
        draw = Draw(*draw)
        if draw.row < 0:
            return self.example()
        key = Key(self.seed, *draw)
        name, target = self.rows[key.index].id, self.target(key.index)
        captions = rotated(self.rows[key.index].captions, key)
        clip = self.clip(key)
        if clip is None:
            return Labelled(name, _finished(self.cache.template, self.spec), target, False, captions)
        if self.augment is None:
            return Labelled(name, _finished(clip, self.spec), target, captions=captions)
        return Labelled(name, *self.augment(clip, target, key, self.spec, self), captions=captions)

    def example(self) -> Labelled:
        """An item of full size for which nothing is read and which is not counted."""
        return Labelled("", _finished(self.cache.template, self.spec), self.vocabulary.encode(()), False)

    def collate(self, items: Sequence[Labelled]) -> tuple[Batch, list[tuple[str, MediaError]]]:
        """Stack the samples to a batch; also returns the clips found unreadable since the last batch."""
        real = torch.tensor([item.real for item in items])
        batch = stack_samples([item.sample for item in items], [item.id for item in items], self.spec, real)
        batch = replace(batch, captions=tuple(item.captions for item in items))
        batch.targets["tags"] = torch.stack([item.target for item in items])
        found, self._found = self._found, []
        return batch, found

    def collate_and_report(
        self, items: Sequence[Labelled]
    ) -> tuple[Batch, list[tuple[str, MediaError]], list[tuple[int, bool]]]:
        """As `collate`; also returns which rows were read since the last batch, and whether each could be.

        For the training process: it shares no memory with loader processes that were not forked.
        """
        batch, found = self.collate(items)
        tried, self._tried = self._tried, []
        return batch, found, tried

    def target(self, index: int) -> torch.Tensor:
        """The target (K,) of a row."""
        row = self.rows[index]
        return self.vocabulary.encode(row.tags, row.tag_scores if self.soft else NO_SCORES)

    def other(self, epoch: int, index: int) -> PaddedClip | None:
        """A clip to mix into another; None if it cannot be read."""
        clip = self.clip(Key(self.seed, epoch, index))
        return clip if isinstance(clip, PaddedClip) else None

    def clip(self, key: Key) -> PaddedClip | Sample | None:
        """The clip from the cache or its file; None if it cannot be read. A file that failed is not tried again."""
        if self.cache.is_bad(key.index):
            return None
        if (kept := self.cache.get(key.index)) is not None:
            return kept
        row = self.rows[key.index]
        try:
            read = self.spec.pad(self._decoded(row, key))
        except MediaError as error:
            self.cache.state[key.index] = FAILED
            self._found.append((row.id, error))
            self._tried.append((key.index, False))
            return None
        clip = self.spec.finish(read) if isinstance(self.cache.template, Sample) else read
        self.cache.keep(key.index, clip)
        self._tried.append((key.index, True))
        return clip

    def _decoded(self, row: Row, key: Key) -> Clip:
        """Raises MediaError."""
        if self.view is None:
            return self.spec.read(row.media, self._start(key), row.end, reader=self.reader)
        clip = self.spec.read(row.media, self._start(key), row.end, reader=self.reader, canvas=self.view.canvas)
        return self.view.view.cut(clip, self.spec)

    def _start(self, key: Key) -> float:
        """Where in the file the clip begins, s."""
        row = self.rows[key.index]
        at = None if self.view is None else self.view.at
        if self.span == "first" and at is None:
            return row.start
        end = row.end
        if end is None:
            if not self.cache.duration[key.index]:
                self.cache.duration[key.index] = self.reader.header(row.media).duration or -1.0
            end = float(self.cache.duration[key.index])
        spare = max(0.0, end - row.start - self.spec.seconds)
        if at is None:
            at = 0.5 if self.span == "center" else key.stream("span").random()
        return row.start + spare * at


def rotated(captions: tuple[str, ...], key: Key) -> tuple[str, ...]:
    """All captions, rotated so that one drawn for this epoch comes first: it is the one that is trained on."""
    first = key.stream("caption").randrange(len(captions)) if len(captions) > 1 else 0
    return captions[first:] + captions[:first]


def _finished(clip: PaddedClip | Sample, spec: ClipSpec) -> Sample:
    return clip if isinstance(clip, Sample) else spec.finish(clip)


def missing_clip(spec: ClipSpec) -> PaddedClip:
    """A clip without video and audio."""
    return spec.pad(Clip(None, torch.zeros(0), None, spec.sample_rate, 0.0, "", (0.0, spec.seconds)))


def stack_samples(
    samples: Sequence[Sample], ids: Sequence[str], spec: ClipSpec, real: torch.Tensor | None = None
) -> Batch:
    """A batch without targets. Where the spectrogram is missing, the waveform counts as missing too."""
    waveform = torch.stack([sample.waveform for sample in samples])
    heard = torch.tensor([sample.heard if sample.spectrogram_keep.any() else 0 for sample in samples])
    return Batch(
        frames=torch.stack([sample.frames for sample in samples]),
        frame_keep=torch.stack([sample.frame_keep for sample in samples]),
        frame_times=torch.stack([sample.frame_times for sample in samples]),
        spectrogram=torch.stack([sample.spectrogram for sample in samples]),
        spectrogram_keep=torch.stack([sample.spectrogram_keep for sample in samples]),
        spectrogram_times=torch.stack([sample.spectrogram_times for sample in samples]),
        ids=tuple(ids),
        waveform=waveform if spec.waveform else None,
        waveform_keep=torch.arange(spec.samples) < heard[:, None] if spec.waveform else None,
        sample_rate=spec.sample_rate,
        real=torch.ones(len(samples), dtype=torch.bool) if real is None else real,
    )
