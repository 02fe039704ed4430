"""Captions by a language model of what is in video and audio: for each shot, for chapters, and for the whole file.

A file without audio is described from its video alone, and the other way round. A file with no modality that the model
can take in has no captions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from mmattn.encoders.pretrained.transformers.local_models import folder_of
from mmattn.inference.annotators.base.interface import Annotation, Annotator, FileWindow, Findings, Setting
from mmattn.inference.annotators.base.model_folder import check_kind, kind_of
from mmattn.inference.annotators.captions.chapters import TimedText, chapters, joined, one_sentence
from mmattn.inference.annotators.captions.language_model import LanguageModel
from mmattn.inference.annotators.captions.requirements import CAPTIONERS, embeddings_source
from mmattn.inference.annotators.captions.settings import CaptionSettings
from mmattn.inference.annotators.captions.spans import CaptionSpan, SpanGatherer
from mmattn.inference.sentences.embedder import Sentences
from mmattn.inference.shots.cuts import FPS, SIZE, check_installed
from mmattn.media.read.windows.views import FrameView
from mmattn.types import MODALITIES, Modality


class Captions(Annotator):
    """Captions by a model in a folder or behind an address."""

    own_rate = True

    def __init__(self, setting: Setting, name: str = "captions", **own: Any) -> None:
        """`own`: see CaptionSettings. Raises UsageError for missing weights, and if no server answers."""
        self.name, self.settings = name, CaptionSettings(**own)
        if self.settings.by_shots:
            check_installed()
        source = embeddings_source(vars(self.settings))
        self.language_model = _load(self.settings, setting)
        self.levels = tuple(self.settings.levels)
        self.embed = None
        if source is not None and "chapters" in self.levels:
            self.embed = Sentences(source, setting.device, key="captions.embeddings")
        self.version = self.language_model.version
        usable = [each for each in self.language_model.modalities if each in setting.modalities]
        if "video" in usable:
            self.view = FrameView(self.settings.fps)
            self.beside = (FrameView(FPS, SIZE),) if self.settings.by_shots else ()
        self.needs_audio = "audio" in usable

    def begin(self, start: float) -> Annotation:
        return _Captioning(self, start)

    def chapters_and_summary(self, captions: Sequence[TimedText]) -> list[tuple[str, TimedText]]:
        """The captions of higher levels that are wanted, each with its level, from those of the spans."""
        parts, found = list(captions), []
        if self.embed is not None and "chapters" in self.levels and captions:
            groups = chapters(captions, self.embed([each.text for each in captions]), self.settings.similarity)
            parts = [joined(group, self._sum_up(group, self.settings.chapter_prompt)) for group in groups]
            found += [("chapter", part) for part in parts]
        if "summary" in self.levels and captions:
            found.append(("summary", joined(captions, self._sum_up(parts, self.settings.summary_prompt))))
        return [(level, one) for level, one in found if one.text]

    def _sum_up(self, group: Sequence[TimedText], prompt: str) -> str:
        return one_sentence([each.text for each in group], prompt, self.language_model.answer)


class _Captioning(Annotation):
    """The captions of one file; `_waiting` holds the spans of the next batch."""

    def __init__(self, annotator: Captions, start: float) -> None:
        self._annotator, settings = annotator, annotator.settings
        self._gatherer = SpanGatherer(
            start, settings.max_s, settings.fps, settings.longest_side, by_shots=settings.by_shots
        )
        self._waiting: list[CaptionSpan] = []
        self._captions: list[TimedText] = []
        self._used: set[Modality] = set()

    def update(self, window: FileWindow) -> None:
        for span in self._gatherer.add(window):
            self._add(span)

    def findings(self) -> Findings:
        for span in self._gatherer.finish():
            self._add(span)
        self._describe()
        used: tuple[Modality, ...] = tuple(modality for modality in MODALITIES if modality in self._used)
        if not used:
            return Findings()
        level = "shot" if self._gatherer.has_shots else "window"
        found = [(level, one) for one in self._captions] if "shots" in self._annotator.levels else []
        found += self._annotator.chapters_and_summary(self._captions)
        found.sort(key=lambda each: (each[1].start, each[1].end))
        end = max((one.end for one in self._captions), default=0.0)
        return Findings({"captions": [self._record(*each) for each in found]}, used, end)

    def _add(self, span: CaptionSpan) -> None:
        if span.modalities:
            self._waiting.append(span)
        if len(self._waiting) >= self._annotator.settings.batch_size:
            self._describe()

    def _describe(self) -> None:
        """Describe the waiting spans, those with the same modalities at once."""
        model, prompt = self._annotator.language_model, self._annotator.settings.prompt
        waiting, self._waiting = sorted(self._waiting, key=lambda one: one.modalities), []
        for modalities, group in itertools.groupby(waiting, lambda one: one.modalities):
            spans = list(group)
            self._used.update(modalities)
            texts = model.describe(spans, prompt)
            described = zip(spans, texts, strict=True)
            self._captions += [TimedText(one.start, one.end, text) for one, text in described if text]
        self._captions.sort(key=lambda one: one.start)

    def _record(self, level: str, caption: TimedText) -> dict[str, Any]:
        return {
            "start": round(caption.start, 3),
            "end": round(caption.end, 3),
            "text": caption.text,
            "level": level,
            "from": self._annotator.name,
        }


def _load(settings: CaptionSettings, setting: Setting) -> LanguageModel:
    if settings.endpoint is not None:
        from mmattn.inference.annotators.captions.endpoint import EndpointModel

        own = settings.some("model", "max_tokens", "timeout_s", "retries", "key_env")
        return EndpointModel(settings.endpoint, at_once=settings.batch_size, **own)
    from mmattn.inference.annotators.captions.local import LocalModel

    folder = folder_of("captions.pretrained", str(settings.pretrained), setting.hub)
    kind = kind_of(folder)
    check_kind(f"captions.pretrained={settings.pretrained}", kind, CAPTIONERS, setting.modalities)
    own = settings.some("fps", "max_tokens", "dtype", "device_map")
    return LocalModel(kind, folder, device=setting.device, **own)
