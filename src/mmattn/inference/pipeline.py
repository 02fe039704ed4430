"""A trained model and files become records: tags and captions, and what each owes to sound and to picture.

A file longer than the trained clip is read in spans, evenly spread; its scores are the mean over them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.data.dataset import stack_samples
from mmattn.data.reading import ClipReader
from mmattn.data.transforms import Reader, Sample
from mmattn.errors import MediaError
from mmattn.inference.result import Result
from mmattn.media.source import name_of
from mmattn.types import MODALITIES, ByteRange, Clip
from mmattn.weighting.captions import Caption, captions_with_weights
from mmattn.weighting.causal import SUBSETS, Subset, scores_on, shapley, subset_fusions
from mmattn.weighting.descriptive import MassMeter

Record = dict[str, Any]


@dataclass(frozen=True)
class _Result:
    """What the model says of one span: scores (K,) on each subset of modalities, attention mass, its caption."""

    scores: dict[Subset, Tensor]
    mass: MassMeter
    caption: Caption | None


@dataclass(frozen=True)
class _File:
    """A file that was read: its prepared spans and what was noticed."""

    path: str
    samples: list[Sample]
    spans: list[tuple[float, float]]
    issues: list[str]


class Predictor:
    """`predictor("clip.mp4")` gives the record of one file; `records` those of many. Raises nothing for a bad file."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        threshold: float = 0.5,
        windows: int = 8,
        batch_size: int = 16,
        reader: Reader | ClipReader | None = None,
    ) -> None:
        self.model = checkpoint.model.to(device)
        self.vocabulary = checkpoint.vocabulary
        self.clip = checkpoint.clip
        self.device = device
        self.threshold = threshold
        self.windows = windows
        self.batch_size = batch_size
        self.reader = reader

    @classmethod
    def load(cls, run: str | Path) -> Predictor:
        """From a run directory or its model.safetensors."""
        return cls(load_model(Path(run)))

    def __call__(self, path: str | Path) -> Result:
        return Result.from_dict(next(self.records([Path(path)])))

    def records(self, media: Iterable[Path | ByteRange]) -> Iterator[Record]:
        """One record a file, in order. Spans of several files share a batch, while a ClipReader reads those to come."""
        read = self.reader.map(self._read, media) if isinstance(self.reader, ClipReader) else map(self._read, media)
        while files := list(itertools.islice(read, self.batch_size)):
            samples = [sample for file in files if isinstance(file, _File) for sample in file.samples]
            results = iter(self._run(samples))
            for file in files:
                if isinstance(file, _File):
                    yield self._record(file, [next(results) for _ in file.samples])
                else:
                    yield {"path": file.path, "status": "failed", "reason": file.reason, "detail": file.detail}

    def _read(self, path: Path | ByteRange) -> _File | MediaError:
        """The spans that could be read. A later span that fails, or holds nothing, costs itself and not the file."""
        issues: set[str] = set()
        try:
            clips = [self.clip.read(path, reader=self.reader)]
        except MediaError as error:
            return error
        for start in self._later_starts(clips[0]):
            try:
                clips.append(self.clip.read(path, start, reader=self.reader))
            except MediaError as error:
                issues.add(f"span_{error.reason}")
        samples = [self.clip.prepare(clip) for clip in clips]
        real = [i for i, sample in enumerate(samples) if sample.frame_keep.any() or sample.spectrogram_keep.any()]
        kept = real or [0]
        issues.update(issue for clip in clips for issue in clip.issues)
        return _File(name_of(path), [samples[i] for i in kept], [clips[i].span for i in kept], sorted(issues))

    def _later_starts(self, first: Clip) -> list[float]:
        """Where further spans of a long file start: what covers it, at most `windows` in all, the last at its end.

        A rest of less than a tenth of a span is left out: headers count the encoder's padding.
        """
        seconds = self.clip.seconds
        count = min(self.windows, math.ceil((first.duration or 0.0) / seconds - 0.1))
        if first.duration is None or count < 2:
            return []
        step = (first.duration - seconds) / (count - 1)
        return [step * i for i in range(1, count)]

    def _run(self, samples: list[Sample]) -> Iterator[_Result]:
        for first in range(0, len(samples), self.batch_size):
            part = samples[first : first + self.batch_size]
            batch = stack_samples(part, [""] * len(part), self.clip).to(self.device)
            with torch.inference_mode():
                video, audio = self.model.encode(batch)
                fused = self.model.fuse(video, audio, frozenset({"mass"}))
                fusions = subset_fusions(self.model, video, audio, fused)
                scores = scores_on(self.model, fusions)
                captioner = self.model.captions
                captions = captions_with_weights(captioner, fusions) if captioner else [None] * len(part)
            for i in range(len(part)):
                meter = MassMeter()
                meter.update(layer.one(i) for layer in fused.stats)
                yield _Result({subset: scores[subset][i].cpu() for subset in SUBSETS}, meter, captions[i])

    def _record(self, file: _File, results: list[_Result]) -> Record:
        scores: dict[Subset, Tensor] = {s: torch.stack([one.scores[s] for one in results]).mean(0) for s in SUBSETS}
        chosen = self._choose(scores["both"])
        split = shapley(scores)
        parts = {"video": split.video, "audio": split.audio, "synergy": split.synergy}
        tags = [
            {"tag": self.vocabulary.names[i], "score": _round(scores["both"][i])}
            | {name: _round(part[i]) for name, part in parts.items()}
            for i in chosen
        ]
        used = {
            "video": any(bool(sample.frame_keep.any()) for sample in file.samples),
            "audio": any(bool(sample.spectrogram_keep.any()) for sample in file.samples),
        }
        mean = {name: _round(parts[name][chosen].mean()) for name in MODALITIES} if chosen else None
        modality = {"used": [name for name in MODALITIES if used[name]], "shapley": mean, "attention": _mass(results)}
        return {
            "path": file.path,
            "status": "ok",
            "tags": tags,
            **({"captions": _captions(file.spans, results)} if self.model.captions else {}),
            "modality": modality,
            "spans": [[round(start, 3), round(end, 3)] for start, end in file.spans],
            "issues": file.issues,
        }

    def _choose(self, scores: Tensor) -> list[int]:
        """Free tags from the threshold on, and the best of each exclusive group; highest score first."""
        grouped = {i for group in self.vocabulary.exclusive for i in group}
        chosen = [group[int(scores[list(group)].argmax())] for group in self.vocabulary.exclusive]
        chosen += [i for i in range(len(scores)) if i not in grouped and float(scores[i]) >= self.threshold]
        return sorted(chosen, key=lambda i: -float(scores[i]))


def _captions(spans: list[tuple[float, float]], results: list[_Result]) -> list[Record]:
    """Of each span, in time; neighbours that say the same are one, with the words of the likelier."""
    found: list[tuple[float, float, Caption]] = []
    for (start, end), result in sorted(zip(spans, results, strict=True), key=lambda pair: pair[0]):
        caption = result.caption
        if caption is None:
            continue
        if found and found[-1][2].text == caption.text:
            first, _, before = found[-1]
            found[-1] = first, end, max(before, caption, key=lambda one: one.score)
        else:
            found.append((start, end, caption))
    return [
        {
            "start": round(start, 3),
            "end": round(end, 3),
            "text": caption.text,
            "score": _round(caption.score),
            "words": [word.to_dict() for word in caption.words],
        }
        for start, end, caption in found
    ]


def _mass(results: list[_Result]) -> dict[str, float] | None:
    """Mean attention mass (or gate) on sound over spans, layers, streams and heads, with its prior.

    None if nothing reads both.
    """
    heads = [head for one in results for head in one.mass.result() if set(MODALITIES) <= set(head["mass"])]
    if not heads:
        return None
    return {
        "audio": _round(sum(head["mass"]["audio"] for head in heads) / len(heads)),
        "prior": _round(sum(head["prior"]["audio"] for head in heads) / len(heads)),
    }


def _round(value: Tensor | float) -> float:
    return round(float(value), 4)
