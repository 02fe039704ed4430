"""Your own list of tags, without training: how well a sentence with each fits what is seen and heard, step by step.

See zero_shot for the models and for what their scores mean. A step's scores are the mean over the steps around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.pretrained.transformers.whole import folder_of
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import (
    HOP_S,
    Annotation,
    Annotator,
    Findings,
    Setting,
    Window,
    package_version,
)
from mmattn.inference.annotators.base.model_folder import TAGGERS, check_kind, check_prompts, check_step, kind_of
from mmattn.inference.annotators.base.tag_finder import TagFinder
from mmattn.inference.annotators.open_tags.smoother import Smoother
from mmattn.inference.annotators.open_tags.zero_shot import Step, ZeroShot, load_zero_shot
from mmattn.inference.tag_list import given_tags
from mmattn.media.read.views import FrameView
from mmattn.metrics.summary import HALF
from mmattn.types import MODALITIES, Modality

_STEP_S = {True: 4.8, False: 0.96}  # of a model that hears, and of one that does not
_EDGE_S = 1e-6


class OpenTags(Annotator):
    """`tags`: a file with a tag a line, or names. `templates`: sentences with {} where the tag stands."""

    def __init__(
        self,
        setting: Setting,
        name: str = "open_tags",
        pretrained: str | None = None,
        tags: str | Sequence[str] | None = None,
        templates: Sequence[str] = ("{}",),
        neutral: str = "something",
        threshold: float = HALF,
        step_s: float | None = None,
        smooth_s: float = 2.88,
    ) -> None:
        """`neutral`: stands in the place of a tag where none is meant. `step_s`: None is 0.96 for models of pictures,
        4.8 for those that hear. `smooth_s`: steps whose middles are in that many seconds are averaged.

        Raises UsageError for absent or unknown weights and for a wrong setting.
        """
        if pretrained is None or tags is None:
            raise UsageError(f"{name} needs {name}.pretrained= and {name}.tags=")
        check_step(name, step_s)
        check_prompts(name, templates)
        described = given_tags(tags, f"{name}.tags")
        folder = folder_of(f"{name}.pretrained", str(pretrained), setting.hub)
        kind = kind_of(folder)
        check_kind(f"{name}.pretrained={pretrained}", kind, TAGGERS, setting.modalities)
        self.model: ZeroShot = load_zero_shot(kind, folder, setting.device)
        prompts = [[template.replace("{}", words) for template in templates] for words in described.values()]
        self.model.ask(prompts, [template.replace("{}", neutral) for template in templates])
        self.name, self.names = name, list(described)
        self.version = f"{kind} {folder.name} ({package_version('transformers')})"
        self.threshold = threshold if setting.threshold is None else setting.threshold
        self.streams = tuple(stream for stream in self.model.streams if stream in setting.modalities)
        self.step_s = step_s or _STEP_S["audio" in self.model.streams]
        self.steps = round(HOP_S / self.step_s)
        self.reach = int(smooth_s / self.step_s / 2 + 1e-6)
        self.view = FrameView(self.model.frames / self.step_s) if "video" in self.streams else None
        self.needs_audio = "audio" in self.streams
        if self.needs_audio:
            self.audio_rate = self.model.sample_rate

    def begin(self, start: float) -> Annotation:
        return _Looking(self)


class _Looking(Annotation):
    def __init__(self, tagger: OpenTags) -> None:
        self._tagger = tagger
        self._tags = TagFinder(tagger.name, tagger.names, None, tagger.threshold, tagger.step_s)
        self._smoother = Smoother(tagger.reach)
        self._spans: list[tuple[float, float]] = []  # of the steps whose scores still wait for their neighbours
        self._used: set[Modality] = set()

    def look(self, window: Window) -> None:
        together: list[tuple[tuple[float, float], Step]] = []
        for span, step in steps_of(window, self._tagger):
            if step.streams:
                together.append((span, step))
                continue
            self._take(together)
            self._close()
            together = []
        self._take(together)

    def findings(self) -> Findings:
        self._close()
        used: tuple[Modality, ...] = tuple(stream for stream in MODALITIES if stream in self._used)
        self._tags.modality = used[0] if len(used) == 1 else None
        return Findings({"tags": self._tags.tags()} if used else {}, used, self._tags.end)

    def _take(self, steps: Sequence[tuple[tuple[float, float], Step]]) -> None:
        if steps:
            self._spans += [span for span, _ in steps]
            self._used.update(stream for _, step in steps for stream in step.streams)
            self._add(self._smoother.add(self._tagger.model.scores([step for _, step in steps])))

    def _close(self) -> None:
        """What comes next is no neighbour of what was there."""
        self._add(self._smoother.finish())
        self._smoother = Smoother(self._tagger.reach)

    def _add(self, scores: Float[Tensor, "R K"] | None) -> None:
        if scores is not None and len(scores):
            spans, self._spans = self._spans[: len(scores)], self._spans[len(scores) :]
            self._tags.add(scores, [*(start for start, _ in spans), spans[-1][1]])


def steps_of(window: Window, tagger: OpenTags) -> Iterator[tuple[tuple[float, float], Step]]:
    """From when to when each step of a window lasts, and what is there in it. The last takes a short rest with it."""
    end = _end(window) if window.is_last else window.own_end
    count = max(1, round((end - window.start) / tagger.step_s)) if window.is_last else tagger.steps
    for k in range(count):
        since, until = (window.start + i * tagger.step_s for i in (k, k + 1))
        until = math.inf if window.is_last and k == count - 1 else until
        frames = window.frames
        there = (frames.times >= since - _EDGE_S) & (frames.times < until - _EDGE_S)
        shown = frames.frames[there] if frames.frames is not None and bool(there.any()) else None
        yield (since, min(until, end)), Step(shown, _heard(window, since, until))


def _heard(window: Window, since: float, until: float) -> Tensor | None:
    """None also for silence."""
    if window.waveform is None:
        return None
    first = round((since - window.start) * window.rate)
    last = len(window.waveform) if until == math.inf else round((until - window.start) * window.rate)
    sound = window.waveform[first:last]
    return sound if bool(sound.any()) else None


def _end(window: Window) -> float:
    """Where what is there ends, as far as that is known; later than where it begins."""
    ends = [window.start + _EDGE_S]
    if len(window.frames.times) and window.fps:
        last = float(window.frames.times[-1])
        shown = last + 1 / window.fps
        ends.append(shown if window.duration is None else max(last + _EDGE_S, min(shown, window.duration)))
    if window.waveform is not None:
        ends.append(window.start + len(window.waveform) / window.rate)
    return max(ends)
