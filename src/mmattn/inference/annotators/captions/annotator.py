"""Sentences on what is seen and heard, by a language model: of each shot, of chapters, and of the whole file.

A file without sound is described by what is seen, one without a picture by what is heard; where the model cannot take
in what there is, there are no captions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from mmattn.encoders.pretrained.transformers.whole import folder_of
from mmattn.inference.annotators.base.interface import Annotation, Annotator, Findings, Setting, Window
from mmattn.inference.annotators.base.model_folder import (
    CAPTIONERS,
    check_captions,
    check_kind,
    embeddings_of,
    kind_of,
)
from mmattn.inference.annotators.captions.chapters import Told, chapters, one_sentence, whole
from mmattn.inference.annotators.captions.language_model import Writer
from mmattn.inference.annotators.captions.spans import Seen, SpanGatherer
from mmattn.inference.sentences.embedder import Sentences
from mmattn.inference.shots.cuts import FPS, SIZE, check_installed
from mmattn.media.read.views import FrameView
from mmattn.types import MODALITIES, Modality

LEVELS = ("shots", "chapters", "summary")


class Captions(Annotator):
    """By a model of `pretrained`, a folder, or behind `endpoint`, an address. `by`: shots, or windows of `max_s` s."""

    own_rate = True

    def __init__(
        self,
        setting: Setting,
        name: str = "captions",
        pretrained: str | None = None,
        endpoint: str | None = None,
        model: str | None = None,
        by: str = "shots",
        max_s: float = 20.0,
        fps: float = 1.0,
        longest_side: int = 640,
        prompt: str = "Describe what happens in this clip in one sentence.",
        max_tokens: int = 64,
        batch_size: int = 4,
        dtype: str = "auto",
        device_map: str | None = None,
        levels: Sequence[str] = LEVELS,
        embeddings: str = "auto",
        similarity: float = 0.5,
        chapter_prompt: str = "Sum up these descriptions of neighbouring shots in one sentence:",
        summary_prompt: str = "Sum up these descriptions of the parts of a video in one sentence:",
        remote: bool = False,
        timeout_s: float = 120.0,
        retries: int = 3,
        key_env: str | None = None,
    ) -> None:
        """`longest_side`: of the frames that are kept, pixels; 0: as they are. `embeddings`: of sentences.

        Raises UsageError for absent or unknown weights, a wrong setting, and where no server answers.
        """
        own: dict[str, Any] = {
            name: value for name, value in locals().items() if name not in ("self", "setting", "name")
        }
        check_captions(own)
        self.name, self.by_shots, self.max_s, self.fps = name, by == "shots", max_s, fps
        self.longest_side, self.batch_size, self.prompt = longest_side, batch_size, prompt
        self.similarity, self.chapter_prompt, self.summary_prompt = similarity, chapter_prompt, summary_prompt
        self.levels = tuple(levels)
        if self.by_shots:
            check_installed()
        source = embeddings_of(own)
        self.writer = _writer(own, setting)
        self.embed = None
        if source is not None and "chapters" in levels:
            self.embed = Sentences(source, setting.device, key="captions.embeddings")
        self.version = self.writer.version
        self.streams: tuple[Modality, ...] = tuple(
            stream for stream in self.writer.streams if stream in setting.modalities
        )
        if "video" in self.streams:
            self.view = FrameView(fps)
            self.beside = (FrameView(FPS, SIZE),) if self.by_shots else ()
        self.needs_audio = "audio" in self.streams

    def begin(self, start: float) -> Annotation:
        return _Captioning(self, start)

    def higher_levels(self, told: Sequence[Told]) -> list[tuple[str, Told]]:
        """Chapters and the summary of what was said of the spans, as far as they are asked for."""
        parts, found = list(told), []
        if self.embed is not None and "chapters" in self.levels and told:
            groups = chapters(told, self.embed([each.text for each in told]), self.similarity)
            parts = [whole(group, self._sum_up(group, self.chapter_prompt)) for group in groups]
            found += [("chapter", part) for part in parts]
        if "summary" in self.levels and told:
            found.append(("summary", whole(told, self._sum_up(parts, self.summary_prompt))))
        return [(level, one) for level, one in found if one.text]

    def _sum_up(self, group: Sequence[Told], prompt: str) -> str:
        return one_sentence([each.text for each in group], prompt, self.writer.answer)


class _Captioning(Annotation):
    def __init__(self, captions: Captions, start: float) -> None:
        self._captions = captions
        side = captions.longest_side
        self._gatherer = SpanGatherer(start, captions.max_s, captions.fps, side, captions.by_shots)
        self._waiting: list[Seen] = []
        self._told: list[Told] = []
        self._used: set[Modality] = set()

    def look(self, window: Window) -> None:
        for span in self._gatherer.add(window):
            self._take(span)

    def findings(self) -> Findings:
        for span in self._gatherer.finish():
            self._take(span)
        self._describe()
        used: tuple[Modality, ...] = tuple(stream for stream in MODALITIES if stream in self._used)
        if not used:
            return Findings()
        level = "shot" if self._gatherer.has_shots else "window"
        found = [(level, one) for one in self._told] if "shots" in self._captions.levels else []
        found += self._captions.higher_levels(self._told)
        found.sort(key=lambda each: (each[1].start, each[1].end))
        end = max((one.end for one in self._told), default=0.0)
        return Findings({"captions": [self._record(*each) for each in found]}, used, end)

    def _take(self, span: Seen) -> None:
        if span.streams:
            self._waiting.append(span)
        if len(self._waiting) >= self._captions.batch_size:
            self._describe()

    def _describe(self) -> None:
        """All that wait, those with the same streams at once."""
        captions, waiting, self._waiting = self._captions, self._waiting, []
        for streams, group in itertools.groupby(sorted(waiting, key=lambda one: one.streams), lambda one: one.streams):
            spans = list(group)
            self._used.update(streams)
            texts = captions.writer.describe(spans, captions.prompt)
            self._told += [Told(one.start, one.end, text) for one, text in zip(spans, texts, strict=True) if text]
        self._told.sort(key=lambda one: one.start)

    def _record(self, level: str, told: Told) -> dict[str, Any]:
        return {
            "start": round(told.start, 3),
            "end": round(told.end, 3),
            "text": told.text,
            "level": level,
            "from": self._captions.name,
        }


def _writer(own: dict[str, Any], setting: Setting) -> Writer:
    if own["endpoint"] is not None:
        from mmattn.inference.annotators.captions.endpoint import EndpointWriter

        given = {name: own[name] for name in ("model", "max_tokens", "timeout_s", "retries", "key_env")}
        return EndpointWriter(own["endpoint"], at_once=own["batch_size"], **given)
    from mmattn.inference.annotators.captions.local import LocalWriter

    folder = folder_of("captions.pretrained", str(own["pretrained"]), setting.hub)
    kind = kind_of(folder)
    check_kind(f"captions.pretrained={own['pretrained']}", kind, CAPTIONERS, setting.modalities)
    given = {name: own[name] for name in ("fps", "max_tokens", "dtype", "device_map")}
    return LocalWriter(kind, folder, device=setting.device, **given)
