"""Self-critical training: captions that score better than the model's own greedy ones become likelier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.metrics.captions.cider import Cider
from mmattn.metrics.captions.words import words_of
from mmattn.tasks.captioning.decoding import DecodedCaptions
from mmattn.tasks.captioning.interface import Captioner
from mmattn.tasks.distributed import each_process
from mmattn.types import Batch, Fused


class SelfCritical:
    """-(r(sample) - r(greedy)) log p(sample), the mean over a batch's tokens; r is CIDEr-D (Rennie et al. 2017, eq. 9).

    Documents for its word weights are the training clips. Until epoch `from_epoch` there is none of it; then its loss
    counts for `weight` of that of the captions.
    """

    def __init__(self, from_epoch: int, weight: float, temperature: float = 1.0) -> None:
        if from_epoch < 0 or not 0 < weight <= 1 or not temperature > 0:
            raise UsageError(
                "self_critical: expected from_epoch from 0 on, weight in (0, 1], temperature above 0; "
                f"got {from_epoch}, {weight:g}, {temperature:g}"
            )
        self.from_epoch = from_epoch
        self.weight = weight
        self.temperature = temperature
        self.reward: Cider | None = None

    def prepare(self, references: Sequence[Sequence[str]]) -> None:
        """`references`: the captions of each training clip."""
        self.reward = Cider([[words_of(text) for text in captions] for captions in references])

    def loss(self, captioner: Captioner, fused: Fused, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """The loss, and the mean reward of the greedy captions. Clips without captions, or not real, stay out."""
        training = captioner.training
        captioner.eval()  # what is compared differs in the draws of words alone
        greedy = replace(captioner.decoding, method="greedy")
        sample = replace(greedy, method="sample", top_p=1.0, temperature=self.temperature, seed=seed)
        drawn = captioner.generate(fused, sample, batch.ids)
        baseline = self.rewards(captioner, captioner.generate(fused, greedy), batch)
        captioner.train(training)
        told = torch.tensor([bool(captions) for captions in batch.captions], device=baseline.device) & batch.real
        better = (self.rewards(captioner, drawn, batch) - baseline) * told
        found, _ = captioner.log_probs(fused, drawn)
        tokens = each_process((drawn.keep & told[:, None]).sum())
        return -(better[:, None] * found).sum() / tokens, (baseline * told).sum() / each_process(told.sum())

    def rewards(self, captioner: Captioner, decoded: DecodedCaptions, batch: Batch) -> Tensor:
        assert self.reward is not None, "prepare comes first"
        texts = captioner.texts(decoded)
        values = [
            self.reward(words_of(text), [words_of(reference) for reference in captions])
            for text, captions in zip(texts, batch.captions, strict=True)
        ]
        return torch.tensor(values, device=decoded.tokens.device)
