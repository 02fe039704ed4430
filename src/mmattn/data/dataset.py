"""Rows become samples and batches. Prepared samples stay in memory as far as they fit: later epochs read nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import Dataset

from mmattn.data.augment import Augment, keyed_generator
from mmattn.data.labels import TagVocabulary
from mmattn.data.manifest import Row
from mmattn.data.sampler import Item
from mmattn.data.transforms import ClipSpec, Sample
from mmattn.errors import MediaError
from mmattn.progress import Progress
from mmattn.types import Batch

Labelled = tuple[str, Sample, torch.Tensor]


class ClipDataset(Dataset[Labelled]):
    """`dataset[(epoch, index)]` -> (id, sample, target). An unreadable file raises MediaError; see `load`."""

    def __init__(
        self,
        rows: Sequence[Row],
        spec: ClipSpec,
        vocabulary: TagVocabulary,
        *,
        augment: Augment | None,
        seed: int,
        cache_bytes: int,
    ) -> None:
        self.rows = list(rows)
        self.spec = spec
        self.vocabulary = vocabulary
        self.augment = augment
        self.seed = seed
        self.cache_bytes = cache_bytes
        self._cache: dict[int, Sample] = {}

    def load(self, title: str, threads: int = 2) -> list[MediaError]:
        """Read every clip once, keep what fits, and drop the rows that cannot be read. Returns their errors.

        Finding the bad files before training is what allows a failure in mid epoch to be an error, not a substitute.
        """
        errors: list[MediaError] = []
        good: list[Row] = []
        with ThreadPoolExecutor(threads) as pool, Progress(title, len(self.rows)) as progress:
            used = 0
            for done, (row, result) in enumerate(self._read_all(pool, 8 * threads), start=1):
                progress.at(done)
                if isinstance(result, MediaError):
                    errors.append(result)
                    continue
                if used + result.nbytes <= self.cache_bytes:
                    self._cache[len(good)] = result
                    used += result.nbytes
                good.append(row)
        self.rows = good
        return errors

    def _read_all(self, pool: ThreadPoolExecutor, ahead: int) -> Iterator[tuple[Row, Sample | MediaError]]:
        """In order, never more than `ahead` clips in flight: one slow file must not pile up the others."""
        for first in range(0, len(self.rows), ahead):
            part = self.rows[first : first + ahead]
            yield from zip(part, pool.map(self._try, part), strict=True)

    def variant(self, vocabulary: TagVocabulary, augment: Augment | None) -> ClipDataset:
        """The same clips, read once, with other targets or another augmentation."""
        other = ClipDataset(
            self.rows, self.spec, vocabulary, augment=augment, seed=self.seed, cache_bytes=self.cache_bytes
        )
        other._cache = self._cache
        return other

    def _try(self, row: Row) -> Sample | MediaError:
        try:
            return self._read(row)
        except MediaError as error:
            return error

    def _read(self, row: Row) -> Sample:
        return self.spec.prepare(self.spec.read(row.path, row.start, row.end))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Item) -> Labelled:
        epoch, index = item
        row = self.rows[index]
        sample = self._cache.get(index) or self._read(row)
        if self.augment is not None:
            sample = self.augment(sample, keyed_generator(self.seed, epoch, index))
        return row.id, sample, self.vocabulary.encode(row.tags)


def collate(items: Sequence[Labelled]) -> Batch:
    """Samples have one shape, so a batch is a stack."""
    batch = stack_samples([sample for _, sample, _ in items], [name for name, _, _ in items])
    batch.targets["tags"] = torch.stack([target for _, _, target in items])
    return batch


def stack_samples(samples: Sequence[Sample], ids: Sequence[str]) -> Batch:
    """A batch without targets."""
    return Batch(
        frames=torch.stack([sample.frames for sample in samples]),
        frame_keep=torch.stack([sample.frame_keep for sample in samples]),
        frame_times=torch.stack([sample.frame_times for sample in samples]),
        spectrogram=torch.stack([sample.spectrogram for sample in samples]),
        spectrogram_keep=torch.stack([sample.spectrogram_keep for sample in samples]),
        spectrogram_times=torch.stack([sample.spectrogram_times for sample in samples]),
        ids=tuple(ids),
    )
