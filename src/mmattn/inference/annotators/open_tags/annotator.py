"""Finds the tags of your own list without training: how well a sentence with each tag fits each time step.

See zero_shot for the models. The scores of a step are averaged with those of the steps around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.pretrained.transformers.local_models import folder_of
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import (
    HOP_S,
    Annotation,
    Annotator,
    FileWindow,
    Findings,
    Setting,
    package_version,
)
from mmattn.inference.annotators.base.model_folder import check_kind, kind_of
from mmattn.inference.annotators.base.tag_finder import TagFinder
from mmattn.inference.annotators.open_tags.load import load_zero_shot
from mmattn.inference.annotators.open_tags.requirements import TAGGERS, check_prompts, check_step
from mmattn.inference.annotators.open_tags.smoother import Smoother
from mmattn.inference.annotators.open_tags.zero_shot import Step
from mmattn.inference.tag_list import given_tags
from mmattn.media.read.windows.views import FrameView
from mmattn.metrics.summary import HALF
from mmattn.types import MODALITIES, Modality

_AUDIO_STEP_S, _VIDEO_STEP_S = 4.8, 0.96  # of a model that uses audio, and of one that does not
_EDGE_S = 1e-6
Span = tuple[float, float]  # start and end, s


class OpenTags(Annotator):
    """`tags`: a file with a tag a line, or names. `templates`: sentences with {} in place of the tag."""

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
        """`neutral`: takes the place of a tag in sentences that name none.

        `step_s`: None is 0.96 for models of video, 4.8 for those that use audio. `smooth_s`: scores are means over the
        steps whose middles are within that many seconds. Raises UsageError for missing or unknown weights and for a
        wrong setting.
        """
        if pretrained is None or tags is None:
            raise UsageError(f"{name} needs {name}.pretrained= and {name}.tags=")
        check_step(name, step_s)
        check_prompts(name, templates)
        described = given_tags(tags, f"{name}.tags")
        folder = folder_of(f"{name}.pretrained", str(pretrained), setting.hub)
        kind = kind_of(folder)
        check_kind(f"{name}.pretrained={pretrained}", kind, TAGGERS, setting.modalities)
        self.model = load_zero_shot(kind, folder, setting.device)
        prompts = [[template.replace("{}", words) for template in templates] for words in described.values()]
        self.model.set_prompts(prompts, [template.replace("{}", neutral) for template in templates])
        self.name, self.names = name, list(described)
        self.threshold = threshold if setting.threshold is None else setting.threshold
        made_by = f"{kind} {folder.name} ({package_version('transformers')})"
        self.version = f"{made_by}, threshold {self.threshold:g} not calibrated"
        usable = [each for each in self.model.modalities if each in setting.modalities]
        self.step_s = step_s or (_AUDIO_STEP_S if "audio" in self.model.modalities else _VIDEO_STEP_S)
        self.steps = round(HOP_S / self.step_s)
        self.reach = int(smooth_s / self.step_s / 2 + 1e-6)
        self.view = FrameView(self.model.frames / self.step_s) if "video" in usable else None
        self.needs_audio = "audio" in usable
        if self.needs_audio:
            self.audio_rate = self.model.sample_rate

    def begin(self, start: float) -> Annotation:
        return _OpenTagging(self)


class _OpenTagging(Annotation):
    """The tags of one file; `_spans` holds the times of the steps whose scores wait for their neighbours."""

    def __init__(self, annotator: OpenTags) -> None:
        self._annotator = annotator
        self._tags = TagFinder(annotator.name, annotator.names, None, annotator.threshold, annotator.step_s)
        self._smoother = Smoother(annotator.reach)
        self._spans: list[Span] = []
        self._used: set[Modality] = set()

    def update(self, window: FileWindow) -> None:
        adjacent: list[tuple[Span, Step]] = []
        for span, step in steps_of(window, self._annotator):
            if step.modalities:
                adjacent.append((span, step))
                continue
            self._score(adjacent)
            self._end_run()
            adjacent = []
        self._score(adjacent)

    def findings(self) -> Findings:
        self._end_run()
        used: tuple[Modality, ...] = tuple(modality for modality in MODALITIES if modality in self._used)
        self._tags.modality = used[0] if len(used) == 1 else None
        return Findings({"tags": self._tags.tags()} if used else {}, used, self._tags.end)

    def _score(self, steps: Sequence[tuple[Span, Step]]) -> None:
        if steps:
            self._spans += [span for span, _ in steps]
            self._used.update(modality for _, step in steps for modality in step.modalities)
            self._add(self._smoother.add(self._annotator.model.scores([step for _, step in steps])))

    def _end_run(self) -> None:
        """Steps that follow are no neighbours of those before."""
        self._add(self._smoother.finish())
        self._smoother = Smoother(self._annotator.reach)

    def _add(self, scores: Float[Tensor, "R K"] | None) -> None:
        if scores is not None and len(scores):
            spans, self._spans = self._spans[: len(scores)], self._spans[len(scores) :]
            self._tags.add(scores, [*(start for start, _ in spans), spans[-1][1]])


def steps_of(window: FileWindow, annotator: OpenTags) -> Iterator[tuple[Span, Step]]:
    """The times and the media of each step of a window. The last step of a file includes a short rest."""
    end = _end(window) if window.is_last else window.own_end
    count = max(1, round((end - window.start) / annotator.step_s)) if window.is_last else annotator.steps
    for k in range(count):
        first, last = (window.start + i * annotator.step_s for i in (k, k + 1))
        last = math.inf if window.is_last and k == count - 1 else last
        frames = window.frames
        own = (frames.times >= first - _EDGE_S) & (frames.times < last - _EDGE_S)
        shown = frames.frames[own] if frames.frames is not None and bool(own.any()) else None
        yield (first, min(last, end)), Step(shown, _waveform(window, first, last))


def _waveform(window: FileWindow, start: float, end: float) -> Tensor | None:
    """The audio from `start` to `end` s; None for silence too."""
    if window.waveform is None:
        return None
    first = round((start - window.start) * window.rate)
    last = len(window.waveform) if end == math.inf else round((end - window.start) * window.rate)
    waveform = window.waveform[first:last]
    return waveform if bool(waveform.any()) else None


def _end(window: FileWindow) -> float:
    """Where the media of a window end as far as is known, later than the start, s."""
    ends = [window.start + _EDGE_S]
    if len(window.frames.times) and window.fps:
        last = float(window.frames.times[-1])
        shown = last + 1 / window.fps
        ends.append(shown if window.duration is None else max(last + _EDGE_S, min(shown, window.duration)))
    if window.waveform is not None:
        ends.append(window.start + len(window.waveform) / window.rate)
    return max(ends)
