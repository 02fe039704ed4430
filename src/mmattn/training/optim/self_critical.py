"""Self-critical training: raises the likelihood of captions that score better than the model's greedy ones."""

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

    The word weights of CIDEr-D come from the captions of the training clips. Starts at epoch `from_epoch`; from then on
    its loss is the share `weight` of the caption loss.
    """

    def __init__(self, from_epoch: int, weight: float, temperature: float = 1.0) -> None:
        if from_epoch < 0 or not 0 < weight <= 1 or not temperature > 0:
            raise UsageError(
                "self_critical: expected from_epoch of 0 or more, weight in (0, 1], temperature above 0; "
                f"got {from_epoch}, {weight:g}, {temperature:g}"
            )
        self.from_epoch = from_epoch
        self.weight = weight
        self.temperature = temperature
        self.reward: Cider | None = None

    def prepare(self, references: Sequence[Sequence[str]]) -> None:
        """Build the reward. `references`: the captions of each training clip."""
        self.reward = Cider([[words_of(text) for text in captions] for captions in references])

    def loss(self, captioner: Captioner, fused: Fused, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """The loss, and the mean reward of the greedy captions, over real clips with captions."""
        training = captioner.training
        captioner.eval()  # the captions compared must differ only in the sampled words
        greedy = replace(captioner.decoding, method="greedy")
        sample = replace(greedy, method="sample", top_p=1.0, temperature=self.temperature, seed=seed)
        drawn = captioner.generate(fused, sample, batch.ids)
        baseline = self.rewards(captioner, captioner.generate(fused, greedy), batch)
        captioner.train(training)
        captioned = torch.tensor([bool(captions) for captions in batch.captions], device=baseline.device) & batch.real
        better = (self.rewards(captioner, drawn, batch) - baseline) * captioned
        found, _ = captioner.log_probs(fused, drawn)
        tokens = each_process((drawn.keep & captioned[:, None]).sum())
        return -(better[:, None] * found).sum() / tokens, (baseline * captioned).sum() / each_process(captioned.sum())

    def rewards(self, captioner: Captioner, decoded: DecodedCaptions, batch: Batch) -> Tensor:
        """(B,) CIDEr-D of the decoded captions."""
        assert self.reward is not None, "prepare comes first"
        texts = captioner.texts(decoded)
        values = [
            self.reward(words_of(text), [words_of(reference) for reference in captions])
            for text, captions in zip(texts, batch.captions, strict=True)
        ]
        return torch.tensor(values, device=decoded.tokens.device)
