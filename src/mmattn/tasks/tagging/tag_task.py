"""What all tagging heads share: the loss, scores, and the thresholds of free tags.

A question is a free tag, with a sigmoid, or an exclusive group of tags, which share a softmax.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.metrics.calibration import best_f1_thresholds, precision_thresholds
from mmattn.tasks.distributed import each_process
from mmattn.tasks.interface import Task
from mmattn.tasks.tagging.class_weights import ClassWeights, answer_weights
from mmattn.tasks.tagging.losses import CrossEntropy, TagLoss
from mmattn.types import Batch


class TagTask(Task):
    """Scores for the K tags of a vocabulary.

    `loss`: that of free tags; groups always use cross-entropy. `label_smoothing` in [0, 1) spreads this share of the
    target over the answers to a question: both of a free tag, all of a group (Szegedy et al. 2016). `class_weights`,
    `effective_beta`: see answer_weights; the counts are part of the vocabulary. `calibrate`: the goal of the thresholds
    of free tags on validation clips: "f1", a precision in (0, 1], or "none".
    """

    present_weights: Tensor
    absent_weights: Tensor

    def __init__(
        self,
        vocabulary: TagVocabulary,
        label_smoothing: float = 0.0,
        loss: TagLoss | None = None,
        class_weights: ClassWeights = "none",
        effective_beta: float = 0.999,
        calibrate: str | float = "none",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"task.label_smoothing={label_smoothing}: expected at least 0 and below 1")
        self.vocabulary = vocabulary
        self.label_smoothing = label_smoothing
        self.tag_loss = loss or CrossEntropy()
        self.calibrate = _goal(calibrate)
        grouped = {i for group in vocabulary.exclusive for i in group}
        self.free = [i for i in range(len(vocabulary.names)) if i not in grouped]
        if not self.free and vocabulary.names and not isinstance(self.tag_loss, CrossEntropy):
            raise UsageError("tag_loss applies to free tags, and all tags are in exclusive groups; set tag_loss=bce")
        self._register_weights(class_weights, effective_beta)

    def _register_weights(self, kind: ClassWeights, beta: float) -> None:
        """Weights (K,) of "present", also for tags of groups, and of "absent". Not part of the checkpoint."""
        names, counts, clips = self.vocabulary.names, self.vocabulary.counts, self.vocabulary.clips
        answer_weights((), kind, beta)  # raises for wrong settings even if there are no tags
        present, absent = torch.ones(len(names)), torch.ones(len(names))
        if kind != "none":
            if len(counts) != len(names):
                raise UsageError(f"task.class_weights={kind} needs a vocabulary with the counts of its clips")
            for i in self.free:
                present[i], absent[i] = answer_weights((counts[i], clips - counts[i]), kind, beta)
            for group in self.vocabulary.exclusive:
                present[list(group)] = answer_weights([counts[i] for i in group], kind, beta)
        self.register_buffer("present_weights", present, persistent=False)
        self.register_buffer("absent_weights", absent, persistent=False)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """The mean over questions of their mean over clips.

        Targets between 0 and 1 (mixup) weight the answers; those of a group are normalised to sum to 1. A clip without
        a tag of a group is left out of that question; clips that are not real are left out of all. A batch without a
        real clip has loss 0.
        """
        logits, targets, real = logits.float(), batch.targets["tags"], batch.real
        groups = [targets[:, list(group)] for group in self.vocabulary.exclusive]
        answered = [real, *((answers.sum(dim=1) > 0) & real for answers in groups)]
        counts = each_process(torch.stack([clips.sum() for clips in answered]))
        terms = []
        if self.free:
            present, absent = self.tag_loss(logits[:, self.free])
            share = targets[:, self.free] * (1 - self.label_smoothing) + self.label_smoothing / 2
            present, absent = self.present_weights[self.free] * present, self.absent_weights[self.free] * absent
            free = share * present + (1 - share) * absent
            terms += list((free * real[:, None]).sum(dim=0) / counts[0])
        for number, (group, answers) in enumerate(zip(self.vocabulary.exclusive, groups, strict=True), start=1):
            total = answers.sum(dim=1, keepdim=True)
            losses = cross_entropy(
                logits[:, list(group)],
                answers / total.where(total > 0, 1.0),
                weight=self.present_weights[list(group)],
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
            terms.append((losses * answered[number]).sum() / counts[number])
        return {"loss": torch.stack(terms).mean()}

    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        scores = torch.sigmoid(logits.float())
        for group in self.vocabulary.exclusive:
            scores[:, list(group)] = torch.softmax(logits[:, list(group)].float(), dim=1)
        return scores

    def thresholds(self, scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> dict[str, float]:
        """A tag that no clip has, or that never reaches the required precision, has no threshold."""
        if self.calibrate is None or not self.free:
            return {}
        scores, targets = scores[:, self.free], targets[:, self.free]
        if self.calibrate == "f1":
            found = best_f1_thresholds(scores, targets)
        else:
            found = precision_thresholds(scores, targets, float(self.calibrate))
        names = [self.vocabulary.names[i] for i in self.free]
        return {name: value for name, value in zip(names, found.tolist(), strict=True) if value == value}


def _goal(calibrate: str | float) -> Literal["f1"] | float | None:
    if calibrate == "f1":
        return "f1"
    if calibrate == "none":
        return None
    try:
        precision = float(calibrate)
    except ValueError:
        precision = 0.0
    if not 0 < precision <= 1:
        raise UsageError(f"task.calibrate={calibrate}: expected f1, none, or a precision above 0 and up to 1") from None
    return precision
