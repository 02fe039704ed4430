"""What every head for tags shares: losses of its questions, scores, and the thresholds of free tags.

Free tags stand alone; exclusive groups share a softmax. A question is a free tag or an exclusive group.
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

    `loss`: of free tags; groups always have cross-entropy. `label_smoothing` in [0, 1) spreads that share of the target
    over the answers to a question: both of a free tag, all of a group (Szegedy et al. 2016). `class_weights`,
    `effective_beta`: see answer_weights; counts come with the vocabulary. `calibrate`: what the thresholds of free tags
    are chosen for on validation clips: "f1", a wanted precision above 0 and up to 1, or "none".
    """

    there: Tensor
    absent: Tensor

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
            raise UsageError(f"task.label_smoothing={label_smoothing}: expected 0 up to, not including, 1")
        self.vocabulary = vocabulary
        self.label_smoothing = label_smoothing
        self.tag_loss = loss or CrossEntropy()
        self.calibrate = _goal(calibrate)
        grouped = {i for group in vocabulary.exclusive for i in group}
        self.free = [i for i in range(len(vocabulary.names)) if i not in grouped]
        if not self.free and vocabulary.names and not isinstance(self.tag_loss, CrossEntropy):
            raise UsageError("tag_loss is for tags that stand alone, and all of these exclude others; set tag_loss=bce")
        self._keep_weights(class_weights, effective_beta)

    def _keep_weights(self, kind: ClassWeights, beta: float) -> None:
        """Of "it is there" (K,), which those of groups use, and of "it is not" (K,). Not part of the checkpoint."""
        names, counts, clips = self.vocabulary.names, self.vocabulary.counts, self.vocabulary.clips
        answer_weights((), kind, beta)  # says what is wrong with them, whatever the tags
        there, absent = torch.ones(len(names)), torch.ones(len(names))
        if kind != "none":
            if len(counts) != len(names):
                raise UsageError(f"task.class_weights={kind} needs a vocabulary with the counts of its clips")
            for i in self.free:
                there[i], absent[i] = answer_weights((counts[i], clips - counts[i]), kind, beta)
            for group in self.vocabulary.exclusive:
                there[list(group)] = answer_weights([counts[i] for i in group], kind, beta)
        self.register_buffer("there", there, persistent=False)
        self.register_buffer("absent", absent, persistent=False)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """The mean over questions: a free tag is a binary one, an exclusive group one of many.

        Targets in between 0 and 1 (mixup) weigh the answers; those of a group are shares of their sum. A clip without
        any tag of a group has no answer to its question and stays out of it, as clips that are not real stay out of
        all. A batch without a real clip has loss 0.
        """
        logits, targets, real = logits.float(), batch.targets["tags"], batch.real
        groups = [targets[:, list(group)] for group in self.vocabulary.exclusive]
        asked = [real, *((answers.sum(dim=1) > 0) & real for answers in groups)]
        counts = each_process(torch.stack([clips.sum() for clips in asked]))
        terms = []
        if self.free:
            there, absent = self.tag_loss(logits[:, self.free])
            share = targets[:, self.free] * (1 - self.label_smoothing) + self.label_smoothing / 2
            free = self.there[self.free] * share * there + self.absent[self.free] * (1 - share) * absent
            terms += list((free * real[:, None]).sum(dim=0) / counts[0])
        for number, (group, answers) in enumerate(zip(self.vocabulary.exclusive, groups, strict=True), start=1):
            total = answers.sum(dim=1, keepdim=True)
            losses = cross_entropy(
                logits[:, list(group)],
                answers / total.where(total > 0, 1.0),
                weight=self.there[list(group)],
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
            terms.append((losses * asked[number]).sum() / counts[number])
        return {"loss": torch.stack(terms).mean()}

    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        scores = torch.sigmoid(logits.float())
        for group in self.vocabulary.exclusive:
            scores[:, list(group)] = torch.softmax(logits[:, list(group)].float(), dim=1)
        return scores

    def thresholds(self, scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> dict[str, float]:
        """Tags of which no clip has them, or which never reach the wanted precision, have none."""
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
        wanted = float(calibrate)
    except ValueError:
        wanted = 0.0
    if not 0 < wanted <= 1:
        raise UsageError(f"task.calibrate={calibrate}: expected f1, none, or a precision above 0 and up to 1") from None
    return wanted
